package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

const answerBytesMax = 8 << 20

// reply is a whole answer.
type reply struct {
	status  int
	header  http.Header
	body    []byte
	problem *Problem // of a status of 300 or more
}

// attempt sends the request once. Its error is a *silence, after which another attempt makes sense, or final.
func (c *Client) attempt(ctx context.Context, run *progress) (*reply, error) {
	token := ""
	if !run.anonymous {
		var err error
		if token, err = c.tokens.get(ctx); err != nil {
			return nil, err
		}
	}
	started, since := c.config.Clock(), c.seen.begin()
	reply, err := c.send(ctx, run, token)
	c.observe(run, reply, err, c.config.Clock().Sub(started))
	if err != nil {
		return nil, err
	}
	if reply.status == http.StatusUnauthorized {
		c.tokens.drop(token)
	}
	if !run.reads() {
		c.seen.wrote(since, reply.header.Get("Consistency-Token"))
	}
	return reply, nil
}

func (c *Client) send(ctx context.Context, run *progress, token string) (*reply, error) {
	ctx, cancel := context.WithTimeout(ctx, c.config.AttemptTimeout)
	defer cancel()
	request, err := c.request(ctx, run, token)
	if err != nil {
		return nil, err
	}
	response, err := c.config.HTTPClient.Do(request)
	if err != nil {
		return nil, silenceAfterSending(err)
	}
	return readReply(response)
}

// request is a new request for every attempt. It cannot be sent twice by the transport: net/http repeats a POST with an
// Idempotency-Key silently when it can rewind the body, and then the answer to the second would be taken for the answer
// to the first, of which nobody heard.
func (c *Client) request(ctx context.Context, run *progress, token string) (*http.Request, error) {
	address := c.config.BaseURL + run.path
	if len(run.query) > 0 {
		address += "?" + run.query.Encode()
	}
	var body io.Reader
	if run.payload != nil {
		body = bytes.NewReader(run.payload)
	}
	request, err := http.NewRequestWithContext(ctx, run.method, address, body)
	if err != nil {
		return nil, fmt.Errorf("client: make a request: %w", err)
	}
	request.GetBody = nil
	c.dress(request, run, token)
	return request, nil
}

// dress sets the headers.
func (c *Client) dress(request *http.Request, run *progress, token string) {
	header := request.Header
	if token != "" {
		header.Set("Authorization", "Bearer "+token)
	}
	header.Set("Accept", "application/json, application/problem+json")
	header.Set("User-Agent", "lockstep-client")
	if c.config.Language != "" {
		header.Set("Accept-Language", c.config.Language)
	}
	if run.payload != nil {
		header.Set("Content-Type", "application/json")
	}
	if run.keyed {
		header.Set("Idempotency-Key", run.key)
	}
	if !run.reads() {
		return
	}
	consistency, source := c.seen.latest()
	if consistency != "" {
		header.Set("Consistency-Token", consistency)
	}
	if source || run.fresh {
		header.Set("Cache-Control", "no-cache")
	}
}

// readReply reads an answer to its end: half an answer is none.
func readReply(response *http.Response) (*reply, error) {
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, answerBytesMax+1))
	if err != nil {
		return nil, silenceAfterSending(err)
	}
	if len(body) > answerBytesMax {
		return nil, silenceAfterSending(errors.New("the answer is longer than any of the system's"))
	}
	read := &reply{status: response.StatusCode, header: response.Header, body: body}
	if read.status >= 300 {
		read.problem = problemOf(read.status, read.header, body)
	}
	return read, nil
}

func (c *Client) observe(run *progress, reply *reply, err error, took time.Duration) {
	if c.config.Observe == nil {
		return
	}
	attempt := Attempt{Method: run.method, Path: run.path, Key: run.key, Err: err, Took: took}
	if reply != nil {
		attempt.Status, attempt.RequestID = reply.status, reply.header.Get("Request-Id")
		attempt.Replayed = strings.EqualFold(reply.header.Get("Idempotency-Replayed"), "true")
		if reply.problem != nil {
			attempt.Code = reply.problem.Code
		}
	}
	c.config.Observe(attempt)
}
