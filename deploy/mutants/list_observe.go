package main

// observeMutants are guards of what operators see: traces that go on, and that tell of nobody, and metrics that are there.
var observeMutants = []mutant{
	{
		name: "trace-not-asked-on",
		file: "cluster/peers/client.go",
		old:  "	transfer.Trace = traces.Parent(ctx)",
		new:  `	transfer.Trace = ""`,
		pkg:  "./node", test: "TestOneTraceShowsBothSystems",
		failure: "the collector has the whole way",
	},
	{
		name: "trace-not-told-on",
		file: "node/remit/carrier.go",
		old:  "			list[i].Trace = traces.Parent(ctx)",
		new:  "			_ = ctx",
		pkg:  "./node", test: "TestOneTraceShowsBothSystems",
		failure: `"beta apply" is not inside of "alpha publish"`,
	},
	{
		name: "trace-names-accounts",
		file: "api/trace.go",
		old:  `	x.span.Note("http.route", x.route.path)`,
		new:  `	x.span.Note("http.route", x.fiber.Path())`,
		pkg:  "./node", test: "TestASampleOfTheRequestsIsTraced",
		failure: "tells of the account",
	},
	{
		name: "trace-unasked",
		file: "cluster/traces/traces.go",
		old:  `parent != "" && !sampled(parent) {`,
		new:  `parent == "never" {`,
		pkg:  "./node", test: "TestASampleOfTheRequestsIsTraced",
		failure: "its caller said that it is not to be",
	},
	{
		name: "trace-costs-all",
		file: "cluster/traces/traces.go",
		old:  "	if !outer.IsRecording() {",
		new:  "	if ctx == nil {",
		pkg:  "./cluster/traces", test: "TestWhatIsNotTracedTakesNoMemory",
		failure: "allocations",
	},
	{
		name: "batch-not-linked",
		file: "cluster/traces/traces.go",
		old:  "			part.of.AddLink(trace.Link{SpanContext: span.SpanContext()})",
		new:  "			_ = part",
		pkg:  "./node", test: "TestOneTraceShowsBothSystems",
		failure: "no link leads from",
	},
	{
		name: "metrics-of-databases",
		file: "node/node.go",
		old:  "	registry.MustRegister(storeMetrics{n.store})",
		new:  "	_ = storeMetrics{n.store}",
		pkg:  "./node", test: "TestRunningNodesExportWhatIsWatched",
		failure: "which no node exports",
	},
}
