package local

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// takeBack makes replicas of former sources, as far as they run.
func (s *system) takeBack(ctx context.Context) {
	now := s.roles.get()
	for _, db := range s.databases {
		if now.Promoting || !now.apart(db.name) {
			continue
		}
		if err := s.takeBackOne(ctx, db); err != nil && ctx.Err() == nil {
			if text := err.Error(); text != db.told {
				db.told = text
				s.cluster.event(db.member.name, "is no replica yet: "+text)
			}
		}
	}
}

// takeBackOne takes the next step. A server that has gone on as the source it was is killed first; one that comes back takes
// no writes, is compared with the new source, and is rebuilt from it if it has what that lacks.
func (s *system) takeBackOne(ctx context.Context, db *database) error {
	switch db.member.snapshot().State {
	case Down:
		if !s.fenced[db.name] {
			return nil // somebody wants it down
		}
		return s.bringUp(ctx, db)
	case Running:
	default:
		return nil
	}
	asking, cancel := context.WithTimeout(ctx, 5*answerMax)
	defer cancel()
	if !db.takesNoWrites(asking) {
		s.cluster.event(db.member.name, "has gone on as the source that it was: killed")
		return db.member.kill(false)
	}
	source, _ := s.servers()
	lacking, err := db.lacking(asking, source)
	switch {
	case err != nil:
		return err
	case len(lacking) > 0:
		return s.rebuild(ctx, db, source, lacking)
	}
	return s.rejoin(ctx, db, source)
}

// bringUp starts a server that we have killed, after a rebuild with data that are new.
func (s *system) bringUp(ctx context.Context, db *database) error {
	ctx, cancel := context.WithTimeout(ctx, s.cluster.options.StartWait)
	defer cancel()
	if err := db.prepare(ctx); err != nil {
		return err
	}
	s.fenced[db.name] = false
	return db.member.wantUp(ctx)
}

// takesNoWrites is false also for a server that does not say so in time.
func (d *database) takesNoWrites(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, answerMax)
	defer cancel()
	var readOnly bool
	err := d.asRoot(func(db *sql.DB) error { return db.QueryRowContext(ctx, "SELECT @@GLOBAL.read_only").Scan(&readOnly) })
	return err == nil && readOnly
}

// lacking lists, as GTIDs and ranges of them, the transactions of a former source that the new one does not have. Each server
// numbers what it commits, so the last number that the new source has of each writer tells.
func (d *database) lacking(ctx context.Context, source *database) (lacking []string, err error) {
	ours, err := d.written(ctx)
	if err != nil {
		return nil, err
	}
	theirs, err := source.written(ctx)
	if err != nil {
		return nil, err
	}
	for writer, last := range ours {
		if has := theirs[writer]; last > has {
			lacking = append(lacking, fmt.Sprintf("%s-%d to %[1]s-%[3]d", writer, has+1, last))
		}
	}
	slices.Sort(lacking)
	return lacking, nil
}

// written reads the last number of each writer, by domain and server, in a server's log.
func (d *database) written(ctx context.Context) (map[string]int64, error) {
	state, err := d.variable(ctx, "gtid_binlog_state")
	if err != nil {
		return nil, err
	}
	last := map[string]int64{}
	for gtid := range strings.SplitSeq(state, ",") {
		var domain, server, number int64
		if n, _ := fmt.Sscanf(strings.TrimSpace(gtid), "%d-%d-%d", &domain, &server, &number); n == 3 {
			last[fmt.Sprintf("%d-%d", domain, server)] = number
		}
	}
	return last, nil
}

// rebuild keeps the data of a former source aside, with a note of what nobody else has, and begins anew under another server
// id, when it is brought up next: what the server committed under the old one is told apart from that for ever, and comes back to it from the new source.
func (s *system) rebuild(ctx context.Context, db, source *database, lacking []string) error {
	if first, err := source.firstLog(ctx); err != nil || first != firstLogName {
		return fmt.Errorf("it has %s, which %s lacks, and cannot be rebuilt from there, whose log begins with %q (%w): "+
			"stop it, put a copy of %[2]s in its place and start it", strings.Join(lacking, ", "), source.member.name, first, err)
	}
	s.fenced[db.name] = true
	if err := db.member.kill(true); err != nil {
		return err
	}
	if err := s.renumber(db); err != nil { // first: under the old one, new data would never get its own commits back
		return err
	}
	aside := filepath.Join(db.dir, "aside-"+time.Now().UTC().Format("20060102T150405.000"))
	if err := os.Rename(db.config.DataDir, aside); err != nil {
		return fmt.Errorf("keep the data aside: %w", err)
	}
	note := fmt.Sprintf("Transactions of %s that %s, which is the source since, does not have:\n%s\n",
		db.member.name, source.member.name, strings.Join(lacking, "\n"))
	if err := replaceFile(filepath.Join(aside, "LACKING"), []byte(note)); err != nil {
		return err
	}
	s.cluster.event(db.member.name, fmt.Sprintf("has %s, which %s lacks: kept in %s, and rebuilt", strings.Join(lacking, ", "), source.member.name, aside))
	return nil
}

// renumber gives a server another id, when it is brought up next.
func (s *system) renumber(db *database) error {
	err := s.roles.change(func(n *standing) {
		rebuilt := map[string]int{db.name: n.Rebuilt[db.name] + 1}
		for name, times := range n.Rebuilt {
			if name != db.name {
				rebuilt[name] = times
			}
		}
		n.Rebuilt = rebuilt
	})
	if err == nil {
		s.number(db)
	}
	return err
}

// rejoin makes a replica of a server that has nothing that the source lacks. It counts as one before it can acknowledge.
func (s *system) rejoin(ctx context.Context, db, source *database) error {
	s.choosing.Lock()
	defer s.choosing.Unlock()
	has, err := db.variable(ctx, "gtid_binlog_pos")
	if err != nil {
		return err
	}
	if err := db.exec(ctx, "STOP SLAVE", "SET GLOBAL gtid_slave_pos = '"+has+"'"); err != nil {
		return err
	}
	if err := s.roles.change(func(n *standing) { n.rejoins(db.name) }); err != nil {
		return err
	}
	s.nameKinds()
	s.cluster.event(db.member.name, "has nothing that "+source.member.name+" lacks: it is its replica now")
	return db.follow(ctx, source)
}

const firstLogName = "binlog.000001"

// firstLog is the name of the oldest log that the server has.
func (d *database) firstLog(ctx context.Context) (name string, err error) {
	var size int64
	err = d.asRoot(func(db *sql.DB) error {
		rows, err := db.QueryContext(ctx, "SHOW BINARY LOGS")
		if err != nil {
			return err
		}
		defer rows.Close()
		if rows.Next() {
			err = rows.Scan(&name, &size)
		}
		return errors.Join(err, rows.Err())
	})
	return name, err
}

// variable reads a global variable.
func (d *database) variable(ctx context.Context, name string) (value string, err error) {
	err = d.asRoot(func(db *sql.DB) error { return db.QueryRowContext(ctx, "SELECT @@GLOBAL."+name).Scan(&value) })
	if err != nil {
		return "", fmt.Errorf("ask %s for %s: %w", d.member.name, name, err)
	}
	return value, nil
}

// position is the number of the last transaction in the server's log.
func (d *database) position(ctx context.Context) (int64, error) {
	value, err := d.variable(ctx, "gtid_binlog_pos")
	if err != nil {
		return 0, err
	}
	return sequence(value, d.config.Domain)
}
