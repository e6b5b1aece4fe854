package store_test

import (
	"testing"
	"time"

	"lockstep/node/store/storetest"
)

func TestTiming(t *testing.T) {
	start := time.Now()
	config := storetest.Config(t)
	t.Log("config", time.Since(start))
	start = time.Now()
	s := storetest.OpenWith(t, config)
	t.Log("open", time.Since(start))
	t.Logf("%+v", s.State())
	start = time.Now()
	config = storetest.Config(t)
	t.Log("config", time.Since(start))
}
