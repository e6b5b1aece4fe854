package main

// guard is something without which money is lost, and the faults under which that shows.
type guard struct {
	name   string
	edits  []edit
	faults string // for the run, as --only has them
}

// edit takes a guard out of a file, in which the text stands once.
type edit struct{ file, old, new string }

var guards = []guard{
	{
		name:   "row-lock", // two nodes decide on the same balance
		edits:  []edit{{"node/store/batch.go", `lockAccounts(ctx, tx, ids, " FOR UPDATE")`, `lockAccounts(ctx, tx, ids, "")`}},
		faults: "all Redis,FLUSHALL",
	},
	{
		name: "command-id", // a repeat on another node is taken for the first
		edits: []edit{{
			"node/posting/batch.go", "b.settlements[i].mine = t.Claim == nil || row.CommandID == t.id", "b.settlements[i].mine = true",
		}},
		faults: "all Redis,lost answers,SIGSTOP of a node,answers between a node and its source",
	},
	{
		name: "barrier", // a promise that was made is made again when it is asked for again
		edits: []edit{{
			"node/ledger/promise.go", "\tif found, there := b.remittances[p.ID]; there {", "\tif found, there := b.remittances[p.ID]; there && found.State == Posted {",
		}},
		faults: "answers between the systems,500s,drip",
	},
	{
		name:   "epoch", // a promotion begins none, so that nobody can tell the new source from the old one
		edits:  []edit{{"node/store/promote.go", "\tepoch, err := s.BeginEpoch(ctx)", "\tepoch, err := s.Epoch(), error(nil)"}},
		faults: "promoted",
	},
	{
		name: "semi-sync", // a source acknowledges what no replica has
		edits: []edit{{
			"cluster/local/failover.go", `const semiSync = "SET GLOBAL rpl_semi_sync_master_enabled = ON"`,
			`const semiSync = "SET GLOBAL rpl_semi_sync_master_enabled = OFF"`,
		}},
		faults: "promoted",
	},
	{
		name: "answer-signature", // whatever stands between two systems is believed
		edits: []edit{{
			"cluster/peers/client.go", "\tcase err != nil:\n\t\treturn fmt.Errorf(\"%w: %s answered %d: %w\", ErrUnavailable, peer.ID, response.StatusCode, err)\n\tcase verified.Peer != peer.ID:",
			"\tcase err == nil && verified.Peer != peer.ID:",
		}},
		faults: "turned around,other requests",
	},
	{
		name: "sync-binlog", // the source's disk may forget what was acknowledged
		edits: []edit{
			{"deploy/mariadb.cnf.tmpl", "sync_binlog = 1", "sync_binlog = 0"},
			{"node/store/check.go", "d.syncBinlog != 1", "false"},
		},
		faults: "power cut of all databases",
	},
}
