package main

// webhooksMutants are guards of what is sent to the addresses that clients give.
var webhooksMutants = []mutant{
	{
		name: "webhook-order",
		file: "node/store/dispatch.go",
		old:  "		case blocked: // its predecessor's end wakes it",
		new:  "		case blocked && pause < 0:",
		pkg:  "./node/webhooks", test: "TestAnEventWaitsForTheOneBeforeIt",
		failure: "the one behind it was sent",
	},
	{
		name: "webhook-address",
		file: "node/webhooks/sender.go",
		old:  "return g.check(target.Addr(), plain)",
		new:  "return g.check(netip.AddrFrom4([4]byte{8, 8, 8, 8}), plain && target.Port() == 0)",
		pkg:  "./node/webhooks", test: "TestAPrivateAddressIsNeverDialled",
		failure: "a private address was dialled",
	},
	{
		name: "webhook-reason",
		file: "node/webhooks/sender.go",
		old:  "	case !connected:\n		return &failure{NoConnection, err}\n",
		new:  "	case !connected:\n		return err\n",
		pkg:  "./node/webhooks", test: "TestAFailureTellsTheOwnerLittle",
		failure: "is told",
	},
	{
		name: "webhook-redirect",
		file: "node/webhooks/sender.go",
		old:  "CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },",
		new:  "CheckRedirect: nil,",
		pkg:  "./node/webhooks", test: "TestARedirectIsNotFollowed",
		failure: "the log says",
	},
	{
		name: "webhook-signature",
		file: "node/webhooks/sender.go",
		old:  "	mac.Write(payload)\n",
		new:  "	mac.Write(payload[:len(payload)/2])\n",
		pkg:  "./node/webhooks", test: "TestOnlyTheWebhooksSecretVerifies",
		failure: "the right secret:",
	},
	{
		name: "webhook-mark",
		file: "node/posting/listen.go",
		old:  "look.Webhooks == l.mark {",
		new:  "l.mark != unknownMark {",
		pkg:  "./node/posting", test: "TestAWebhookHearsOfWhatCommits",
		failure: "the webhook is told [], not",
	},
	{
		name: "webhook-owner",
		file: "node/webhooks/desk.go",
		old:  "	there, err := store.HasWebhook(ctx, tx, principal, webhook)\n",
		new:  "	there, err := principal != \"\", error(nil)\n",
		pkg:  "./node/webhooks", test: "TestADeliveryIsReplayed",
		failure: "a replay of what is not there is",
	},
}
