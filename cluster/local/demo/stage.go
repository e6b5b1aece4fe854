package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	"lockstep/api/client"
	"lockstep/cluster/local"
)

// stage is one system with the demo's two customers.
type stage struct {
	ctx      context.Context
	out      io.Writer
	system   local.SystemCredentials
	balancer *client.Client
	nodes    []*client.Client
	korean   *client.Client
	replays  atomic.Int64 // answers that said they were the answer to an earlier request

	alice, bob string // account numbers
}

const currency = "KRW"

func openStage(ctx context.Context, system local.SystemCredentials, out io.Writer) (*stage, error) {
	s := &stage{ctx: ctx, out: out, system: system}
	var err error
	if s.balancer, err = s.connect(system.BaseURL, ""); err != nil {
		return nil, err
	}
	if s.korean, err = s.connect(system.BaseURL, "ko"); err != nil {
		return nil, err
	}
	for _, address := range system.Nodes {
		node, err := s.connect(address, "")
		if err != nil {
			return nil, err
		}
		s.nodes = append(s.nodes, node)
	}
	return s, nil
}

func (s *stage) connect(address, language string) (*client.Client, error) {
	return client.New(client.Config{
		BaseURL: address, ClientID: s.system.Operator.ClientID, ClientSecret: s.system.Operator.ClientSecret, Language: language,
		Observe: func(a client.Attempt) {
			if a.Replayed {
				s.replays.Add(1)
			}
		},
	})
}

// node is one of the nodes, in turn.
func (s *stage) node(i int) *client.Client { return s.nodes[i%len(s.nodes)] }

func (s *stage) say(format string, args ...any) { fmt.Fprintf(s.out, "  "+format+"\n", args...) }

// expect says what was seen; anything else than what was wanted ends the demo.
func (s *stage) expect(what, got, want string) error {
	if got != want {
		return fmt.Errorf("%w: %s is %s instead of %s", errSurprise, what, got, want)
	}
	s.say("%-58s %s", what, got)
	return nil
}

// balance expects an account's booked money, read from the source.
func (s *stage) balance(name, number, want string) error {
	account, err := s.balancer.Account(s.ctx, number, client.Fresh())
	if err != nil {
		return err
	}
	return s.expect(name+" has", account.Balance.Posted, want)
}

// refused expects a refusal with this code, and returns it.
func refused(err error, code string) (*client.Problem, error) {
	var problem *client.Problem
	switch {
	case err == nil:
		return nil, fmt.Errorf("%w: it succeeded instead of being refused with %s", errSurprise, code)
	case !errors.As(err, &problem):
		return nil, err
	case problem.Code != code:
		return nil, fmt.Errorf("%w: it was refused with %s instead of %s", errSurprise, problem.Code, code)
	}
	return problem, nil
}
