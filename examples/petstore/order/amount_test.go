package order_test

import (
	"testing"

	"lockstep/examples/petstore/order"
)

func TestAmountsAreWrittenInTheCurrencysDecimals(t *testing.T) {
	t.Parallel()
	for wanted, given := range map[string]struct {
		minor    int64
		decimals int
	}{"1500": {1500, 0}, "15.00": {1500, 2}, "0.05": {5, 2}, "0.50": {50, 2}, "0.001": {1, 3}} {
		if written := (order.Shop{Decimals: given.decimals}).Amount(given.minor); written != wanted {
			t.Errorf("%d with %d decimals is written %q, wanted %q", given.minor, given.decimals, written, wanted)
		}
	}
}
