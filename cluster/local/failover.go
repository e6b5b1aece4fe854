package local

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"lockstep/node/store"
)

const (
	// followersMin is how many replicas have to follow the source for one of them to take its place: with one there would be
	// nobody left to acknowledge what the new source commits.
	followersMin = 2

	guardEvery    = 250 * time.Millisecond
	answerMax     = time.Second      // a server that is well has answered by then
	promoteMax    = 10 * time.Second // one attempt
	reconcileMax  = 15 * time.Minute // one attempt: all transfers with a peer are compared, and an attempt that is cut short begins again
	reconcileWait = 2 * time.Second  // between two
)

var errChoosing = errors.New("the source is being chosen")

// guard promotes a replica when the source gives no answer, and takes a former source back as a replica, until ctx ends.
func (s *system) guard(ctx context.Context) {
	ticks := time.NewTicker(guardEvery)
	defer ticks.Stop()
	answered := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticks.C:
		}
		now := s.roles.get()
		source, _ := s.servers()
		heard := false
		switch {
		case now.Promoting:
			s.tells(s.promote(ctx))
			heard = true
		case source.answers(ctx) == nil:
			heard = true
			s.tells(s.returnTo(ctx, source))
			s.catchUp(ctx, source)
		case time.Since(answered) > s.cluster.options.FailoverAfter:
			err := s.failOver(ctx, answered)
			heard = err == nil // by the new one
			s.tells(err)
		}
		if s.takeBack(ctx); heard {
			answered = time.Now() // however long the rest of the round took: nobody listened meanwhile
		}
	}
}

// tells reports what hinders the failover, once.
func (s *system) tells(err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	if text != s.told && text != "" {
		s.cluster.event(s.id, "no failover yet, and no writes: "+text)
	}
	s.told = text
}

func (d *database) answers(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, answerMax)
	defer cancel()
	return d.probe(ctx)
}

// failOver replaces a source that has given no answer since then. The one that has received most has all that any replica has
// acknowledged, provided that all of them are asked; so none may be missing, and none may have forgotten what it received.
func (s *system) failOver(ctx context.Context, answered time.Time) error {
	s.choosing.Lock() // no replica joins anybody meanwhile
	defer s.choosing.Unlock()
	ctx, cancel := context.WithTimeout(ctx, promoteMax)
	defer cancel()
	old, followers := s.servers()
	followers = s.joinedOf(followers)
	if err := mayReplace(ctx, old, followers); err != nil {
		return err
	}
	s.cluster.event(old.member.name, fmt.Sprintf("has given no answer for %.1f s: a replica takes its place", time.Since(answered).Seconds()))
	if err := s.fence(old); err != nil {
		return err
	}
	s.left = true
	chosen, err := s.choose(ctx, followers)
	if err != nil {
		return fmt.Errorf("%w; next, bring %s back: lockstep ctl start %[2]s", err, old.member.name)
	}
	if err := s.roles.change(func(n *standing) {
		n.Source, n.Promoting, n.Apart = chosen.name, true, append(n.Apart, old.name)
	}); err != nil {
		return err
	}
	return s.promoteChosen(ctx)
}

// mayReplace refuses to lose what somebody may have acknowledged, and says what to do.
func mayReplace(ctx context.Context, old *database, followers []*database) error {
	if len(followers) < followersMin {
		return fmt.Errorf("%s is lost, and of its replicas only %d can follow another: bring it back (lockstep ctl start %[1]s)", old.member.name, len(followers))
	}
	for _, f := range followers {
		if f.answers(ctx) != nil {
			return fmt.Errorf("%s is lost, and %s, which may have acknowledged what no other replica has, gives no answer: "+
				"bring either back (lockstep ctl start %[2]s)", old.member.name, f.member.name)
		}
		if !f.complete() {
			return fmt.Errorf("%s is lost, and %s had not caught up with it yet since it was started or pointed at it, so it may have "+
				"forgotten what it acknowledged: bring the source back (lockstep ctl start %[1]s)", old.member.name, f.member.name)
		}
	}
	return nil
}

// Spare tells whether the system could lose its source now and have another, as far as the supervisor saw when it last looked,
// which it does several times a second.
func (c *Cluster) Spare(system string) bool {
	for _, s := range c.systems {
		if s.id == system {
			return s.spare.Load()
		}
	}
	return false
}

// catching is how far a replica has come since it was started or pointed at a source. Either makes it throw away what it had
// received and not applied, and may have acknowledged. It has that again when it has reached a position that the source had later.
type catching struct {
	asked  time.Time // when the source was asked for the position
	target int64     // the position
	done   bool      // it was reached
}

// catchUp notes which replicas have caught up with a source that answers.
func (s *system) catchUp(ctx context.Context, source *database) {
	ctx, cancel := context.WithTimeout(ctx, answerMax)
	defer cancel()
	_, others := s.servers()
	joined := s.joinedOf(others)
	defer func() {
		s.spare.Store(len(joined) >= followersMin && !slices.ContainsFunc(joined, func(f *database) bool { return !f.complete() }))
	}()
	for _, f := range joined {
		if f.complete() || f.member.snapshot().State != Running {
			continue
		}
		if !f.catching.asked.After(f.begun()) {
			asked := time.Now()
			target, err := source.position(ctx)
			if err != nil {
				return
			}
			f.catching = catching{asked: asked, target: target}
		}
		reached, err := f.position(ctx)
		if f.catching.done = err == nil && reached >= f.catching.target; f.complete() {
			s.cluster.event(f.member.name, "has caught up, and may take the place of "+source.member.name)
		}
	}
}

// complete tells whether a replica has all that it has ever acknowledged.
func (d *database) complete() bool { return d.catching.done && d.catching.asked.After(d.begun()) }

// begun is when a replica was last started or pointed at a source.
func (d *database) begun() time.Time {
	d.pointing.Lock()
	defer d.pointing.Unlock()
	if started := d.member.snapshot().Since; started.After(d.pointed) {
		return started
	}
	return d.pointed
}

// follow makes a replica follow a source, from where it is.
func (d *database) follow(ctx context.Context, source *database) error {
	defer func() { // also when it failed half way
		d.pointing.Lock()
		defer d.pointing.Unlock()
		d.pointed = time.Now()
	}()
	return d.replicateFrom(ctx, source.mariadb)
}

// fence makes sure that a former source acknowledges nothing: it is killed. Nobody has to touch one that somebody has frozen:
// it answers nobody, and from the moment in which the replicas have left it each of its commits waits for them for ever; when
// it goes on, takeBack kills it.
func (s *system) fence(old *database) error {
	state := old.member.snapshot().State
	if state == Frozen {
		return nil
	}
	if !old.member.wantedDown() {
		s.fenced[old.name] = true // by us, so it is for us to start it
	}
	return old.member.kill(true)
}

// choose makes every replica leave the source and apply all that it has received, and finds the one that has most.
func (s *system) choose(ctx context.Context, followers []*database) (*database, error) {
	reached := make([]int64, len(followers))
	group, asking := errgroup.WithContext(ctx)
	for i, f := range followers {
		group.Go(func() error {
			position, err := store.TakeReceived(asking, f.rootDSN(schemaName), s.id, slog.New(slog.DiscardHandler))
			if err == nil && !f.complete() {
				err = errors.New("it was restarted meanwhile")
			}
			if err == nil {
				reached[i], err = sequence(position, f.config.Domain)
			}
			if err != nil {
				return fmt.Errorf("%s cannot tell what it has: %w", f.member.name, err)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return followers[slices.Index(reached, slices.Max(reached))], nil
}

// sequence reads the number of a domain's last transaction in a position; 0 is none.
func sequence(position string, domain int) (int64, error) {
	for gtid := range strings.SplitSeq(position, ",") {
		parts := strings.Split(strings.TrimSpace(gtid), "-")
		if len(parts) == 3 && parts[0] == strconv.Itoa(domain) {
			return strconv.ParseInt(parts[2], 10, 64)
		}
	}
	return 0, nil
}

// promote goes on with a promotion that was begun.
func (s *system) promote(ctx context.Context) error {
	s.choosing.Lock()
	defer s.choosing.Unlock()
	ctx, cancel := context.WithTimeout(ctx, promoteMax)
	defer cancel()
	for _, db := range s.databases {
		if s.roles.get().apart(db.name) {
			if err := s.fence(db); err != nil {
				return err
			}
		}
	}
	return s.promoteChosen(ctx)
}

// promoteChosen makes the chosen replica the source. The others follow it first, so that its first commit, which begins the
// epoch, is acknowledged as all are.
func (s *system) promoteChosen(ctx context.Context) error {
	chosen, followers := s.servers()
	followers = s.joinedOf(followers)
	if err := chosen.exec(ctx, "STOP SLAVE", "RESET SLAVE ALL", semiSync); err != nil {
		return fmt.Errorf("%s does not leave the old source: %w", chosen.member.name, err)
	}
	for _, f := range followers {
		if err := f.follow(ctx, chosen); err != nil {
			return fmt.Errorf("%s does not follow %s: %w", f.member.name, chosen.member.name, err)
		}
	}
	if err := chosen.awaitAcknowledged(ctx, len(followers)); err != nil {
		return err
	}
	done, err := store.Promote(ctx, chosen.rootDSN(schemaName), s.id, slog.New(slog.DiscardHandler))
	if err != nil && !errors.Is(err, store.ErrTakesWrites) { // which a promotion that was cut short has done
		return fmt.Errorf("promote %s: %w", chosen.member.name, err)
	}
	if err := s.makeKnown(ctx); err != nil {
		return err
	}
	if err := s.roles.change(func(n *standing) { n.Promoting, n.Unreconciled = false, true }); err != nil {
		return err
	}
	text := "is the source now"
	if err == nil {
		text += fmt.Sprintf(", in epoch %d", done.Epoch)
	}
	s.cluster.event(chosen.member.name, text)
	s.left = false
	return nil
}

// returnTo makes replicas follow a source again that they have left and that came back before another was chosen.
func (s *system) returnTo(ctx context.Context, source *database) error {
	if !s.left {
		return nil
	}
	s.choosing.Lock()
	defer s.choosing.Unlock()
	_, others := s.servers()
	for _, f := range s.joinedOf(others) {
		if err := f.follow(ctx, source); err != nil {
			return fmt.Errorf("%s does not follow %s again: %w", f.member.name, source.member.name, err)
		}
	}
	s.left = false
	return nil
}

// makeKnown tells who is the source to whoever asks from now on; nodes that run have found out by themselves.
func (s *system) makeKnown(ctx context.Context) error {
	s.nameKinds()
	for _, m := range s.nodeMembers {
		if err := m.prepare(ctx); err != nil {
			return err
		}
	}
	if err := s.writeNodeConfig(s.setupFile(), 1); err != nil {
		return err
	}
	return s.cluster.writeCredentials()
}

// reconcile compares the books with those of the peers after a promotion, for as long as that fails and ctx lasts.
func (s *system) reconcile(ctx context.Context) {
	ticks := time.NewTicker(reconcileWait)
	defer ticks.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticks.C:
		}
		if now := s.roles.get(); !now.Unreconciled || now.Promoting {
			continue
		}
		attempt, cancel := context.WithTimeout(ctx, reconcileMax)
		err := s.run(attempt, "reconcile", "--config", s.setupFile())
		cancel()
		if err != nil {
			continue // its log tells, and the next attempt may find the peers
		}
		if err := s.roles.change(func(n *standing) { n.Unreconciled = false }); err == nil {
			s.cluster.event(s.id, "its books are reconciled with its peers")
		}
	}
}

// semiSync makes a source wait for a replica at each commit.
const semiSync = "SET GLOBAL rpl_semi_sync_master_enabled = ON"

// join is what a server does each time it has become ready: a replica follows the source, and the source takes writes. A former
// source does nothing before it was compared with the new one.
func (s *system) join(ctx context.Context, db *database) error {
	if !s.choosing.TryRLock() {
		return errChoosing
	}
	defer s.choosing.RUnlock()
	source, _ := s.servers()
	switch now := s.roles.get(); {
	case now.apart(db.name) || db == source && now.Promoting:
		return nil
	case db == source:
		err := s.lead(ctx, source)
		if errors.Is(err, errAhead) && err.Error() != source.hindered {
			source.hindered = err.Error()
			s.cluster.event(source.member.name, "takes no writes: "+source.hindered)
		}
		return err
	}
	return db.follow(ctx, source)
}

// errAhead says that a replica has more than the source.
var errAhead = errors.New("a replica has what the source has lost, and what it would commit next would have the same numbers")

// lead lets the source take writes once a replica has all that it has. After a crash it has committed what nobody had
// acknowledged; who was told of that by the source would be told of something that the next failover forgets. Nor does it lead
// when a replica has what it has not: MariaDB before 10.11.9 throws away, where it may be a replica, what it was committing when
// it crashed, also if replicas have that (MDEV-33465).
func (s *system) lead(ctx context.Context, source *database) error {
	if err := source.exec(ctx, semiSync); err != nil {
		return err
	}
	has, err := source.position(ctx)
	if err != nil {
		return err
	}
	_, others := s.servers()
	enough := false
	for _, f := range s.joinedOf(others) {
		reached, err := f.position(ctx)
		if err == nil && reached > has {
			return fmt.Errorf("%w: %s is at %d, %s at %d; next, let a replica take its place: lockstep ctl kill --down %[4]s",
				errAhead, f.member.name, reached, source.member.name, has)
		}
		enough = enough || err == nil && reached == has
	}
	if !enough {
		return errors.New("no replica has all that it has yet")
	}
	return source.exec(ctx, "SET GLOBAL read_only = OFF")
}
