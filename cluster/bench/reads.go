package bench

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"
)

const (
	readConns   = 64
	readPercent = 90
	servingMax  = 30 * time.Second // for a replica to serve after the nodes' start
)

// readsAndTransfers asks for a balance nine times out of ten, and else moves money.
func readsAndTransfers(b *bank, random *rand.Rand, buffer []byte) ([]byte, int) {
	if random.IntN(100) < readPercent {
		return b.appendRead(buffer, random.IntN(len(b.numbers))), statusOK
	}
	return uniform(b, random, buffer)
}

// compareReads shows what a replica takes off the source.
func compareReads(ctx context.Context, e *env) error {
	s, err := e.open(ctx, nil)
	if err != nil {
		return err
	}
	defer s.close()
	variants := []variant{{"replica", nil}, {"source", map[string]any{"reads": "source"}}}
	rounds := make([][]result, len(variants))
	err = s.inTurn(ctx, variants, func(v int) error {
		if err := s.awaitReads(ctx, variants[v].name); err != nil {
			return err
		}
		r, err := s.measure(ctx, load{name: variants[v].name, conns: readConns, request: readsAndTransfers})
		rounds[v] = append(rounds[v], r)
		return err
	})
	if err != nil {
		return err
	}
	reads, writes := make([]float64, len(variants)), make([]float64, len(variants))
	for v := range variants {
		all := join(rounds[v]...)
		for _, half := range []struct {
			name   string
			status int
			into   *float64
		}{{"reads", statusOK, &reads[v]}, {"transfers", statusCreated, &writes[v]}} {
			part := all.of(half.status)
			part.name = half.name + ", reads from the " + variants[v].name
			*half.into = part.perSecond()
			s.record(part.load())
			s.figure(part.name, part.perSecond(), "/s")
		}
	}
	s.figure("reads, replica / source", reads[0]/reads[1], "")
	s.figure("transfers, replica / source", writes[0]/writes[1], "")
	return nil
}

// awaitReads returns when every node reads from where it should: after its start, a node first looks at its replica.
func (s *stage) awaitReads(ctx context.Context, want string) error {
	token := s.bank.people[0].access()
	ctx, cancel := context.WithTimeout(ctx, servingMax)
	defer cancel()
	for _, node := range s.system.Nodes {
		asWanted := func() (bool, error) {
			from, err := readFrom(ctx, node+"/v1/accounts/"+s.bank.numbers[0], token)
			return from == want, err
		}
		if err := await(ctx, asWanted); err != nil {
			return fmt.Errorf("wait until %s reads from the %s: %w", node, want, err)
		}
	}
	return nil
}

// readFrom reads an account and tells which server the answer is from.
func readFrom(ctx context.Context, url, token string) (string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	request.Header.Set("Authorization", "Bearer "+token)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%w: %s", errAnswer, response.Status)
	}
	return response.Header.Get("Read-From"), nil
}
