// Keeper runs the servers that the tests of one checkout share. Tests start it by
// themselves; `go run ./cluster/local/servers/keeper stop` ends it.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"lockstep/cluster/local/servers"
)

const usage = `usage: keeper stop               ends the test servers of this checkout
       keeper run PLACE [IDLE]   runs them there (tests do this), until nobody has
                                 used them for IDLE, such as 30s; default 10m
`

func main() {
	err := run(os.Args[1:], os.Stdout)
	if errors.Is(err, errUsage) {
		fmt.Fprint(os.Stderr, usage)
		os.Exit(2)
	}
	if err != nil {
		fmt.Println(err) // to whoever waits for the word that we are ready
		os.Exit(1)
	}
}

var errUsage = errors.New("bad usage")

func run(args []string, out io.Writer) error {
	switch {
	case len(args) == 1 && args[0] == "stop":
		return stop(out)
	case len(args) == 2 && args[0] == "run":
		return keep(servers.Place(args[1]), idleMax, out)
	case len(args) == 3 && args[0] == "run":
		idle, err := time.ParseDuration(args[2])
		if err != nil || idle <= 0 {
			return errUsage
		}
		return keep(servers.Place(args[1]), idle, out)
	case len(args) == 1 && (args[0] == "-h" || args[0] == "--help"):
		_, err := io.WriteString(out, usage)
		return err
	}
	return errUsage
}

func stop(out io.Writer) error {
	place, err := servers.Here()
	if err != nil {
		return err
	}
	found, err := place.Stop()
	if found && err == nil {
		fmt.Fprintln(out, "the test servers are stopped")
	}
	return err
}
