package node

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"lockstep/api"
	"lockstep/api/auth"
	"lockstep/node/ledger"
	"lockstep/node/posting"
	"lockstep/node/webhooks"
)

// Webhooks bounds what is sent to the addresses that clients give.
type Webhooks struct {
	Allow       []string      `koanf:"allow"`         // addresses or networks that may be sent to although they are private, and by plain http
	Timeout     time.Duration `koanf:"timeout"`       // one attempt
	Settle      time.Duration `koanf:"settle"`        // writing down what came of it; what a node that dies has in hand waits for both
	RetryMin    time.Duration `koanf:"retry_min"`     // pause after the first failure, doubled with each further one
	RetryMax    time.Duration `koanf:"retry_max"`     // the longest pause
	GiveUpAfter time.Duration `koanf:"give_up_after"` // since the event
	Keep        time.Duration `koanf:"keep"`          // deliveries that ended stay in the log for so long
}

func defaultWebhooks() Webhooks {
	c := webhooks.DefaultConfig()
	return Webhooks{
		Timeout: c.Timeout, Settle: c.Settle, RetryMin: c.RetryMin, RetryMax: c.RetryMax, GiveUpAfter: c.GiveUpAfter, Keep: c.Keep,
	}
}

// config is what the dispatcher runs with.
func (w Webhooks) config() (webhooks.Config, error) {
	c := webhooks.DefaultConfig()
	c.Timeout, c.Settle, c.RetryMin, c.RetryMax, c.GiveUpAfter, c.Keep = w.Timeout, w.Settle, w.RetryMin, w.RetryMax, w.GiveUpAfter, w.Keep
	var err error
	if c.Allow, err = networks(w.Allow); err != nil {
		return c, fmt.Errorf("webhooks.allow: %w", err)
	}
	if err := c.Validate(); err != nil {
		return c, fmt.Errorf("webhooks.%w", err)
	}
	return c, nil
}

// networks reads networks; an address is a network of its own.
func networks(texts []string) ([]netip.Prefix, error) {
	var prefixes []netip.Prefix
	for _, text := range texts {
		prefix, err := netip.ParsePrefix(text)
		if address, addressErr := netip.ParseAddr(text); addressErr == nil {
			prefix, err = address.Prefix(address.BitLen())
		}
		if err != nil {
			return nil, fmt.Errorf("%q is no address and no network such as 10.0.0.0/8", text)
		}
		prefixes = append(prefixes, prefix)
	}
	return prefixes, nil
}

// openWebhooks starts to send what is due. It is opened before the engine and closed after it.
func (n *Node) openWebhooks(ctx context.Context, registry prometheus.Registerer) error {
	config, err := n.config.Webhooks.config()
	if err != nil {
		return err
	}
	secrets, err := auth.OpenWebhookSecrets(authConfig(n.config, n.store, n.log))
	if err != nil {
		return err
	}
	if n.dispatcher, err = webhooks.Open(ctx, config, n.store, secrets, n.clock, registry, n.log); err != nil {
		return err
	}
	n.onClose(func(context.Context) error { n.dispatcher.Close(); return nil })
	n.webhooks = webhooks.NewDesk(config, secrets, n.payload(), n.store.Now)
	return nil
}

// payload renders what webhooks are sent.
func (n *Node) payload() func(ledger.Notice) []byte {
	return api.WebhookPayload(n.config.System, n.config.zone())
}

// tellWebhooks has the engine write what webhooks are to hear.
func (n *Node) tellWebhooks(config *posting.Config) {
	config.Payload, config.Delivering = n.payload(), n.dispatcher.Wake
}
