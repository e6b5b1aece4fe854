package e2e_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/legacy"
)

// contract is the OpenAPI file that the cluster itself serves, and what was held against it.
type contract struct {
	once   sync.Once
	file   *openapi3.T
	router routers.Router
	err    error

	mu      sync.Mutex
	checked map[string]int // answers of a kind: method, path and status
}

// alikeMax is how many answers of a kind are held against the file. Each costs milliseconds of the two processors that
// the cluster under test needs as well.
const alikeMax = 20

// of reads the file that a site serves.
func (c *contract) of(s *site) (*openapi3.T, error) {
	c.once.Do(func() {
		openapi3filter.RegisterBodyDecoder("text/html", openapi3filter.FileBodyDecoder) // pages are strings
		var request *http.Request
		if request, c.err = http.NewRequest(http.MethodGet, s.balancer+"/openapi.yaml", http.NoBody); c.err != nil {
			return
		}
		if c.file, c.err = openapi3.NewLoader().LoadFromData(s.send(request).body); c.err == nil {
			c.router, c.err = legacy.NewRouter(c.file)
		}
	})
	return c.file, c.err
}

// check requires that an answer is one that the file describes for its request. Paths that are not in the file have
// nothing to be held against.
func (c *contract) check(tb testing.TB, s *site, request *http.Request, got answer) {
	tb.Helper()
	if _, err := c.of(s); err != nil {
		tb.Errorf("read the OpenAPI file: %v", err)
		return
	}
	asked := request.Clone(context.Background())
	asked.URL.Scheme, asked.URL.Host, asked.Host = "", "", ""
	route, parameters, err := c.router.FindRoute(asked)
	if err != nil || !c.due(fmt.Sprint(request.Method, route.Path, got.status)) {
		return
	}
	options := &openapi3filter.Options{AuthenticationFunc: openapi3filter.NoopAuthenticationFunc, IncludeResponseStatus: true}
	err = openapi3filter.ValidateResponse(context.Background(), &openapi3filter.ResponseValidationInput{
		RequestValidationInput: &openapi3filter.RequestValidationInput{
			Request: asked, PathParams: parameters, Route: route, Options: options,
		},
		Status: got.status, Header: got.header, Body: io.NopCloser(bytes.NewReader(got.body)), Options: options,
	})
	if err != nil {
		tb.Errorf("the answer to %s %s is not what the OpenAPI file says: %v\n%v", request.Method, request.URL.Path, err, got)
	}
}

// due counts an answer of a kind, and tells whether it is to be looked at.
func (c *contract) due(kind string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.checked == nil {
		c.checked = map[string]int{}
	}
	c.checked[kind]++
	return c.checked[kind] <= alikeMax
}
