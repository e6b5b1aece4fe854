package webhooks

import "time"

// Pause is what the dispatcher waits after an attempt that failed.
func (c Config) Pause(attempts int, age, asked time.Duration, random float64) (time.Duration, bool) {
	return c.pause(attempts, age, asked, random)
}
