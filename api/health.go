package api

import (
	"fmt"
	"time"
)

// Health is what a node knows about itself and its servers.
type Health struct {
	Started     bool // start-up checks have passed
	Lease       bool // the node id is still ours; without it nothing may be changed
	Source      bool // the database that takes changes answers
	SemiSync    bool // commits wait for a replica
	Replicas    []ReplicaHealth
	Redis       []ServerHealth
	ClockOffset time.Duration // the node's clock minus the database's
	Warnings    []string      // what an operator should look at
}

// ReplicaHealth is one read replica as the node sees it.
type ReplicaHealth struct {
	Address string
	Serving bool          // reached, and not too far behind to be read
	Lag     time.Duration // behind the source
}

// ServerHealth is one Redis server as the node sees it.
type ServerHealth struct {
	Address string
	Up      bool
}

// Reason says why the node should get no requests; "" when it should.
//
// A node without Redis works by row locks alone, and one without its source still answers reads from replicas while
// changes are refused with 503: taking all nodes out of the balancer would make both worse.
func (h Health) Reason() string {
	switch {
	case !h.Started:
		return "the node is starting"
	case !h.Lease:
		return "the node's lease is lost"
	case !h.Source && !h.reads():
		return "neither the source nor a replica can be reached"
	}
	return ""
}

func (h Health) reads() bool {
	for _, replica := range h.Replicas {
		if replica.Serving {
			return true
		}
	}
	return false
}

type serverBody struct {
	Address string `json:"address"`
	Status  string `json:"status"`
	Lag     *int64 `json:"lag_ms,omitempty"`
}

type readyBody struct {
	Status      string       `json:"status"`
	Reason      string       `json:"reason,omitempty"`
	Source      string       `json:"source"`
	SemiSync    bool         `json:"semi_sync"`
	Replicas    []serverBody `json:"replicas"`
	Redis       []serverBody `json:"redis"`
	Locks       string       `json:"locks"`
	ClockOffset int64        `json:"clock_offset_ms"`
	Warnings    []string     `json:"warnings"`
}

// live answers as long as the process serves at all.
func (x *exchange) live() error {
	x.set("Cache-Control", "no-store")
	return x.answer(200, map[string]string{"status": "alive"})
}

// ready tells the balancer whether to send requests here, and people what is missing.
func (x *exchange) ready() error {
	x.set("Cache-Control", "no-store")
	health := x.server.deps.Health()
	body := health.body()
	if x.server.draining.Load() {
		body.Reason = "the node is shutting down"
	}
	if body.Reason != "" {
		body.Status = "unready"
		return x.answer(503, body)
	}
	return x.answer(200, body)
}

func (h Health) body() readyBody {
	body := readyBody{
		Status: "ready", Reason: h.Reason(), Source: upOrDown(h.Source), SemiSync: h.SemiSync, Locks: h.locks(),
		Replicas: []serverBody{}, Redis: []serverBody{}, ClockOffset: h.ClockOffset.Milliseconds(), Warnings: []string{},
	}
	for _, replica := range h.Replicas {
		lag := replica.Lag.Milliseconds()
		server := serverBody{Address: replica.Address, Status: upOrDown(replica.Serving)}
		if replica.Serving {
			server.Lag = &lag
		}
		body.Replicas = append(body.Replicas, server)
	}
	for _, redis := range h.Redis {
		body.Redis = append(body.Redis, serverBody{Address: redis.Address, Status: upOrDown(redis.Up)})
	}
	body.Warnings = append(body.Warnings, h.Warnings...)
	return body
}

// locks is "degraded" while there is no quorum of Redis servers and row locks alone keep the order.
func (h Health) locks() string {
	up := 0
	for _, redis := range h.Redis {
		if redis.Up {
			up++
		}
	}
	if len(h.Redis) == 0 {
		return "off"
	}
	if 2*up <= len(h.Redis) {
		return fmt.Sprintf("degraded: %d of %d servers", up, len(h.Redis))
	}
	return "up"
}

func upOrDown(up bool) string {
	if up {
		return "up"
	}
	return "down"
}
