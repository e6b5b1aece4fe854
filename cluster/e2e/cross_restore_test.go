package e2e_test

import (
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A system is restored from a backup that was made under load, before a thousand transfers to and from the other one, while
// more of them are under way. Until it is reconciled it says nothing about what it has forgotten. Then all is as clients were
// told, and those who had no answer get one by repeating their keys.
func TestARestoredSystemLearnsAThousandTransfersFromItsPeer(t *testing.T) {
	t.Parallel()
	const clients, sinceBackup, eachWay, flow = 64, 1000, 300, 10
	x := openCrossing(t, calm(), 0)
	l := x.load(t, x.books, "1", clients, across(x.population(t)))
	stop := l.start(t)
	l.flows(t, flow, 0, 1, 2, 3)
	backup := filepath.Join(t.TempDir(), "alpha.sql")
	x.command(t, "alpha", "backup", "--out", backup)
	began, told := time.Now(), l.total()
	l.until(t, told+sinceBackup)
	x.keepDown(t, x.nodesOf(0)...)
	t.Logf("%d transfers acknowledged before the backup, %d after it, in %.1f s", told, l.total()-told, time.Since(began).Seconds())
	ended := ending(stop)
	began = time.Now()
	x.command(t, "alpha", "restore", "--in", backup, "--force")
	x.bringUp(t, 0)
	at := l.atLoss(t, x, "alpha")
	lost := l.lost(at.books, x, 0)
	if len(lost[0]) < eachWay || len(lost[1]) < eachWay || len(lost[0])+len(lost[1]) < sinceBackup {
		t.Errorf("alpha has forgotten %d transfers to beta and %d from there, want %d each and %d in all", len(lost[0]), len(lost[1]), eachWay, sinceBackup)
	}
	x.refusesUnknown(t, 0, lost)
	eventually(t, "a client is told that alpha cannot pay yet", func() bool { return l.times("source_unavailable") > 0 })
	said := x.command(t, "alpha", "reconcile", "--peer", "beta")
	if !strings.Contains(said, "alpha is ready") {
		t.Errorf("reconcile says %q", said)
	}
	t.Logf("alpha had forgotten %d transfers to beta and %d from there; ready again after %.1f s: %s", len(lost[0]), len(lost[1]), time.Since(began).Seconds(), said)
	<-ended
	stop = l.start(t)
	l.flows(t, flow, 0, 1, 2, 3)
	stop()
	x.settled(t, alikeMaxWait)
	x.provesAll(t)
	if forgotten, again := l.afterForgetting(t, x, at); 2*forgotten > len(lost[0]) || again > 0 {
		t.Errorf("%d acknowledged payments are forgotten of %d that were lost, and %d were made again", forgotten, len(lost[0]), again)
	}
	t.Logf("clients heard %v", l.heard)
}

// ending ends a load beside what goes on, and tells when each payment has come to its end.
func ending(stop func()) <-chan struct{} {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		stop()
	}()
	return ended
}
