package api

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"strings"

	"go.yaml.in/yaml/v3"

	"lockstep/node/ledger"
	"lockstep/node/store"
)

//go:embed openapi.yaml
var openAPI []byte

//go:embed pages/docs.html
var docsHTML string

//go:embed pages/problem.html
var problemHTML string

const htmlType = "text/html; charset=utf-8"

// pageSecurity lets a page load nothing at all: it brings all that it needs.
const pageSecurity = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// pages are what people read in a browser.
type pages struct {
	docs    []byte
	problem *template.Template
}

// newPages renders the reference from the OpenAPI file, once.
func newPages(file *openAPIFile) (pages, error) {
	docs, err := template.New("docs").Funcs(template.FuncMap{"upper": strings.ToUpper, "paragraphs": paragraphs}).Parse(docsHTML)
	if err != nil {
		return pages{}, fmt.Errorf("read docs.html: %w", err)
	}
	var rendered bytes.Buffer
	if err := docs.Execute(&rendered, file.reference()); err != nil {
		return pages{}, fmt.Errorf("render the reference: %w", err)
	}
	problem, err := template.New("problem").Parse(problemHTML)
	if err != nil {
		return pages{}, fmt.Errorf("read problem.html: %w", err)
	}
	return pages{docs: rendered.Bytes(), problem: problem}, nil
}

// readOpenAPI reads the file for what the program itself takes from it.
func readOpenAPI() (*openAPIFile, error) {
	var file openAPIFile
	if err := yaml.Unmarshal(openAPI, &file); err != nil {
		return nil, fmt.Errorf("read openapi.yaml: %w", err)
	}
	return &file, nil
}

func paragraphs(text string) []string {
	return strings.Split(strings.TrimSpace(text), "\n\n")
}

func (x *exchange) getOpenAPI() error {
	x.set("Cache-Control", "public, max-age=300")
	return x.write(store.Answer{Status: 200, ContentType: "application/yaml", Body: openAPI})
}

func (x *exchange) getDocs() error {
	x.set("Cache-Control", "public, max-age=300")
	return x.page200(x.server.pages.docs)
}

func (x *exchange) page200(page []byte) error {
	x.set("Content-Security-Policy", pageSecurity)
	return x.write(store.Answer{Status: 200, ContentType: htmlType, Body: page})
}

// explanation is a code in one language, as the page and its JSON form say it.
type explanation struct {
	Title   string `json:"title"`
	Meaning string `json:"meaning"`
	Action  string `json:"action"`
}

func explain(w wording) explanation { return explanation{w.title, w.meaning, w.action} }

type problemPage struct {
	Code    ledger.Code `json:"code"`
	Status  int         `json:"status"`
	Outcome outcome     `json:"outcome"`
	Retry   retry       `json:"retry"`
	English explanation `json:"en"`
	Korean  explanation `json:"ko"`
}

// getProblem is where the type of a problem leads: what the code means and what to do, in both languages, for people
// as a page and for programs as JSON.
func (x *exchange) getProblem() error {
	code := ledger.Code(x.param("code"))
	rule, known := rules[code]
	if !known {
		return ledger.Refuse(ledger.NotFound, "there is no problem of this code")
	}
	text := words[code]
	page := problemPage{code, rule.status, rule.outcome, rule.retry, explain(text.en), explain(text.ko)}
	x.set("Cache-Control", "public, max-age=300")
	x.set("Vary", "Accept")
	if !strings.Contains(x.header("Accept"), "text/html") {
		return x.answer(200, page)
	}
	var rendered bytes.Buffer
	if err := x.server.pages.problem.Execute(&rendered, page); err != nil {
		return fmt.Errorf("render the page of a problem: %w", err)
	}
	return x.page200(rendered.Bytes())
}
