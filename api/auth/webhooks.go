package auth

// sealWebhooks is what the sealing key of webhooks' secrets is derived for.
const sealWebhooks = "lockstep webhook secrets v1"

// WebhookSecrets seals the secrets that webhooks are signed with. It is safe for many goroutines.
type WebhookSecrets struct{ sealer sealer }

// OpenWebhookSecrets derives the key from the system's secret.
func OpenWebhookSecrets(config Config) (*WebhookSecrets, error) {
	sealer, err := newSealer(config.Secret, config.System, sealWebhooks)
	if err != nil {
		return nil, err
	}
	return &WebhookSecrets{sealer}, nil
}

// Seal binds the secret to its webhook's id, so that nobody can move it to another row.
func (w *WebhookSecrets) Seal(id string, secret []byte) []byte { return w.sealer.seal(id, secret) }

// Open reads what Seal has sealed for the same webhook.
func (w *WebhookSecrets) Open(id string, sealed []byte) ([]byte, error) {
	return w.sealer.open(id, sealed)
}
