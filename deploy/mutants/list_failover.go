package main

// failoverMutants are guards of the failover that the local supervisor makes.
var failoverMutants = []mutant{
	{
		name: "follow-no-epoch",
		file: "node/store/follow.go",
		old:  "if err == nil && takesWrites && epoch > c.store.Epoch() {",
		new:  "if err == nil && takesWrites && epoch < c.store.Epoch() {",
		pkg:  "./cluster/e2e", test: "TestLostSourceIsReplacedUnderLoad",
		failure: "both nodes make payments: not within",
	},
	{
		name: "lowest-promoted",
		file: "cluster/local/failover.go",
		old:  "followers[slices.Index(reached, slices.Max(reached))]",
		new:  "followers[slices.Index(reached, slices.Min(reached))]",
		pkg:  "./cluster/e2e", test: "TestLostSourceIsReplacedUnderLoad",
		failure: "a replica takes the place of alpha-mysql-source: not within",
	},
	{
		name: "source-acknowledges-alone",
		file: "cluster/local/failover.go",
		old:  `const semiSync = "SET GLOBAL rpl_semi_sync_master_enabled = ON"`,
		new:  `const semiSync = "SET GLOBAL rpl_semi_sync_master_enabled = OFF"`,
		pkg:  "./cluster/e2e", test: "TestLostSourceIsReplacedUnderLoad",
		failure: "a former source has acknowledged a commit",
	},
	{
		name: "silent-replica-ignored",
		file: "cluster/local/failover.go",
		old:  "if f.answers(ctx) != nil {",
		new:  "if f.answers(ctx) != nil && len(followers) < followersMin {",
		pkg:  "./cluster/e2e", test: "TestLostSourceIsReplacedUnderLoad",
		failure: "the supervisor says why it promotes nothing, and what to do: not within",
	},
}
