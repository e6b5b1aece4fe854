package store

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// durability is what the self-check reads.
type durability struct {
	syncBinlog, flushLog int
	readOnly             bool
	skew                 time.Duration // the database's clock minus ours
}

// selfCheck refuses a source on which acknowledged money could be lost or that takes no writes, naming every such
// setting. AllowUnsafe turns the refusal into warnings.
func (s *Store) selfCheck(ctx context.Context) error {
	found, err := s.inspect(ctx)
	if err != nil {
		return fmt.Errorf("check the source: %w", err)
	}
	s.offset.Store(int64(found.skew))
	problems := found.problems(s.config.ClockSkewMax)
	if s.config.AllowUnsafe {
		for _, problem := range problems {
			s.config.Logger.Warn("unsafe source allowed", "problem", problem)
		}
		return nil
	}
	return errors.Join(problems...)
}

func (s *Store) inspect(ctx context.Context) (durability, error) {
	var found durability
	err := s.control.QueryRowContext(ctx,
		"SELECT @@GLOBAL.sync_binlog, @@GLOBAL.innodb_flush_log_at_trx_commit, @@GLOBAL.read_only").
		Scan(&found.syncBinlog, &found.flushLog, &found.readOnly)
	if err != nil {
		return durability{}, err
	}
	found.skew, err = s.measureOffset(ctx)
	return found, err
}

func (d durability) problems(skewMax time.Duration) []error {
	var problems []error
	refuse := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	if d.syncBinlog != 1 {
		refuse("sync_binlog is %d: a power cut would lose acknowledged commits; set sync_binlog=1 in the source's [mysqld] section, or start with --allow-unsafe", d.syncBinlog)
	}
	if d.flushLog != 1 {
		refuse("innodb_flush_log_at_trx_commit is %d: a power cut would lose acknowledged commits; set innodb_flush_log_at_trx_commit=1 in the source's [mysqld] section, or start with --allow-unsafe", d.flushLog)
	}
	if d.readOnly {
		refuse("read_only is ON: this server is a replica or was demoted; point mysql.source at the server that takes writes, or SET GLOBAL read_only=OFF there")
	}
	if d.skew.Abs() > skewMax {
		refuse("this machine's clock is %s off the database's, more than %s: set both clocks by NTP, or start with --allow-unsafe", d.skew.Abs().Round(time.Millisecond), skewMax)
	}
	return problems
}

// checkSystem refuses a database that belongs to another system, or is half restored, and learns the epoch.
func (s *Store) checkSystem(ctx context.Context) error {
	var id, state string
	var epoch int64
	if err := s.control.QueryRowContext(ctx, "SELECT id, epoch, state FROM `system`").Scan(&id, &epoch, &state); err != nil {
		return fmt.Errorf("read which system the database belongs to (run `lockstep migrate` first): %w", err)
	}
	if id != s.config.System {
		return fmt.Errorf("the database belongs to system %q, not %q: check `system` and mysql.source", id, s.config.System)
	}
	if state == stateRestoring {
		return ErrRestoring
	}
	s.setStanding(epoch, state)
	return nil
}
