// Standin takes the place of the lockstep program in tests of the supervisor: a
// node that answers with its own name, the broker, and set-up commands that succeed.
package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"regexp"
	"sync/atomic"
	"syscall"
	"time"

	"lockstep/cluster/broker"
)

func main() {
	if len(os.Args) == 4 && os.Args[1] == "broker" {
		runBroker(os.Args[3])
		return
	}
	if len(os.Args) < 2 || os.Args[1] != "node" {
		fmt.Println("set up:", os.Args[1:])
		return
	}
	config, err := os.ReadFile(os.Args[3])
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	if regexp.MustCompile(`(?m)^fail: true$`).Match(config) {
		fmt.Println("configuration refused: fail")
		os.Exit(1)
	}
	drain := time.Duration(0)
	if set := regexp.MustCompile(`(?m)^drain: (.*)$`).FindSubmatch(config); set != nil {
		drain, _ = time.ParseDuration(string(set[1]))
	}
	listen := string(regexp.MustCompile(`(?m)^listen: (.*)$`).FindSubmatch(config)[1])
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	serve(ctx, listen, drain)
}

func runBroker(config string) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if err := (&broker.Command{Config: config}).Run(ctx); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

func serve(ctx context.Context, listen string, drain time.Duration) {
	var draining atomic.Bool
	mux := http.NewServeMux()
	mux.HandleFunc("/readyz", func(w http.ResponseWriter, _ *http.Request) {
		if draining.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, listen)
	})
	mux.HandleFunc("/die", func(http.ResponseWriter, *http.Request) { os.Exit(3) })
	server := &http.Server{Addr: listen, Handler: mux}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		<-ctx.Done()
		draining.Store(true)
		time.Sleep(drain)
		_ = server.Shutdown(context.Background())
	}()
	if err := server.ListenAndServe(); err != http.ErrServerClosed {
		fmt.Println(err)
		os.Exit(1)
	}
	<-ended
}
