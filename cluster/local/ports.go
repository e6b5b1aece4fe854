package local

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"lockstep/cluster/local/process"
)

// Ports of one system. From the port base B of the cluster, system i (from 0) has
// the block S = B + 10*i:
//
//	S                  balancer
//	S+1 ... S+9        nodes
//	S+10001 ...        the nodes' admin listeners
//	S+20000            MariaDB source
//	S+20001 ... 20006  MariaDB replicas
//	S+20007 ... 20009  Redis
//
// B+5000 is NATS, B+5001 the OpenID provider, and B+10000 the cluster's control address.
type ports struct {
	balancer int
	nodes    []int
	admin    []int
	source   int
	replicas []int
	redis    []int
}

const (
	portsPerSystem  = 10
	natsOffset      = 5_000
	idpOffset       = 5_001
	adminOffset     = 10_000
	serverOffset    = 20_000
	redisOffset     = serverOffset + 7
	portBaseMax     = 65_535 - serverOffset - portsPerSystem*systemsMax
	portBaseExample = 9080
)

// layout is every port of a cluster.
type layout struct {
	control int
	nats    int
	idp     int
	systems []ports
}

func fixedLayout(o Options) layout {
	l := layout{control: o.PortBase + adminOffset, nats: o.PortBase + natsOffset, idp: o.PortBase + idpOffset}
	for i := range o.Systems {
		base := o.PortBase + portsPerSystem*i
		p := ports{balancer: base, source: base + serverOffset}
		for n := 1; n <= o.Nodes; n++ {
			p.nodes, p.admin = append(p.nodes, base+n), append(p.admin, base+adminOffset+n)
		}
		for n := 1; n <= o.Replicas; n++ {
			p.replicas = append(p.replicas, base+serverOffset+n)
		}
		for n := range redisCount {
			p.redis = append(p.redis, base+redisOffset+n)
		}
		l.systems = append(l.systems, p)
	}
	return l
}

// freeLayout gives each process the next of the free ports.
func freeLayout(o Options, next func() (int, error)) (layout, error) {
	l := fixedLayout(o) // for its shape
	slots := []*int{&l.control, &l.nats, &l.idp}
	for i := range l.systems {
		p := &l.systems[i]
		slots = append(slots, &p.balancer, &p.source)
		for _, list := range [][]int{p.nodes, p.admin, p.replicas, p.redis} {
			for n := range list {
				slots = append(slots, &list[n])
			}
		}
	}
	for _, slot := range slots {
		port, err := next()
		if err != nil {
			return l, err
		}
		*slot = port
	}
	return l, nil
}

func address(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// listen listens on a port. One that was just looked at (isFree) may still seem taken: a process that is being started at the
// same time has a copy of the socket until it has become its program.
func listen(ctx context.Context, port int) (listener net.Listener, err error) {
	for range 25 {
		if listener, err = new(net.ListenConfig).Listen(ctx, "tcp", address(port)); err == nil {
			return listener, nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	return nil, err
}

// isFree tells whether a port can be listened on now.
func isFree(port int) bool {
	listener, err := new(net.ListenConfig).Listen(context.Background(), "tcp", address(port))
	if err != nil {
		return false
	}
	_ = listener.Close()
	return true
}

// freePorts hands out ports that no other cluster on this machine takes at the
// same time. Listening and closing again is not enough for that, so blocks of
// ports are locked by files. The blocks lie below the range from which kernels
// take ports for outgoing connections, and away from the default layout.
type freePorts struct {
	dir   string
	locks []*process.FileLock
	ports []int
}

const (
	blocksFirstPort = 20_000
	blockPorts      = 32
	blocksCount     = 240
	blockTriesMax   = 1000
)

func newFreePorts() (*freePorts, error) {
	dir := filepath.Join(os.TempDir(), fmt.Sprintf("lockstep-ports-%d", os.Getuid()))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the directory of port locks: %w", err)
	}
	return &freePorts{dir: dir}, nil
}

func (f *freePorts) next() (int, error) {
	for try := 0; len(f.ports) == 0; try++ {
		if try == blockTriesMax {
			return 0, errors.New("no free ports left for test clusters: end some of them")
		}
		if err := f.lockBlock(); err != nil {
			return 0, err
		}
	}
	port := f.ports[0]
	f.ports = f.ports[1:]
	return port, nil
}

// lockBlock tries one random block.
func (f *freePorts) lockBlock() error {
	number, err := rand.Int(rand.Reader, big.NewInt(blocksCount))
	if err != nil {
		return fmt.Errorf("pick ports: %w", err)
	}
	block := int(number.Int64())
	file, err := process.Lock(filepath.Join(f.dir, strconv.Itoa(block)))
	if errors.Is(err, process.ErrLocked) {
		return nil
	}
	if err != nil {
		return err
	}
	f.locks = append(f.locks, file)
	for port := blocksFirstPort + block*blockPorts; len(f.ports) < blockPorts; port++ {
		if !isFree(port) {
			f.ports = nil // somebody else is at home here: try another block
			return nil
		}
		f.ports = append(f.ports, port)
	}
	return nil
}

// Close gives the ports back.
func (f *freePorts) Close() {
	for _, file := range f.locks {
		_ = file.Close()
	}
	f.locks = nil
}
