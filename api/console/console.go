// Package console is the wallet: the pages on which people see their accounts and move money. It turns what the edge has
// read into HTML, in English and Korean, and serves the files that the pages need. It reads and changes nothing itself:
// what a page changes it asks of the REST API, as every other client does.
package console

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"html/template"
	"io/fs"
	"path"
	"strings"
)

// Language is one that the pages are written in.
type Language string

// The languages.
const (
	English Language = "en"
	Korean  Language = "ko"
)

//go:embed pages/*.html
var pageFiles embed.FS

//go:embed assets
var assetFiles embed.FS

// Policy is the Content-Security-Policy of every page: nothing from elsewhere, nothing inline, no frames around it.
const Policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; font-src 'self'; connect-src 'self'; " +
	"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// AssetsPath is where the pages look for their files.
const AssetsPath = "/wallet/assets/"

// Asset is a file that the pages load.
type Asset struct {
	Type string // of its content
	Body []byte
}

// Console renders the pages. It is safe for concurrent use.
type Console struct {
	pages  map[Language]map[string]*template.Template
	assets map[string]Asset  // by the name that pages link to
	links  map[string]string // from a file's name to that name
}

// New reads the pages and their files; what is wrong with them it finds here, not while it serves.
func New() (*Console, error) {
	c := &Console{pages: map[Language]map[string]*template.Template{}, assets: map[string]Asset{}, links: map[string]string{}}
	if err := c.readAssets(); err != nil {
		return nil, err
	}
	names, err := fs.Glob(pageFiles, "pages/*.html")
	if err != nil {
		return nil, fmt.Errorf("list the pages: %w", err)
	}
	for _, language := range []Language{English, Korean} {
		c.pages[language] = map[string]*template.Template{}
		for _, name := range names {
			page := strings.TrimSuffix(path.Base(name), ".html")
			if page == "layout" {
				continue
			}
			parsed, err := template.New("layout.html").Funcs(c.functions(language)).ParseFS(pageFiles, "pages/layout.html", name)
			if err != nil {
				return nil, fmt.Errorf("read the page %s: %w", page, err)
			}
			c.pages[language][page] = parsed
		}
	}
	return c, nil
}

// assetTypes are the kinds of files that are served; the rest, such as the font's licence, is not.
var assetTypes = map[string]string{
	".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml", ".woff2": "font/woff2",
}

// readAssets names each file by its contents, so that browsers may keep it for ever and never use an old one. The style
// sheet names the fonts, so it comes last.
func (c *Console) readAssets() error {
	entries, err := fs.ReadDir(assetFiles, "assets")
	if err != nil {
		return fmt.Errorf("list the pages' files: %w", err)
	}
	var sheets []string
	for _, entry := range entries {
		if path.Ext(entry.Name()) == ".css" {
			sheets = append(sheets, entry.Name())
			continue
		}
		if err := c.readAsset(entry.Name()); err != nil {
			return err
		}
	}
	for _, sheet := range sheets {
		if err := c.readAsset(sheet); err != nil {
			return err
		}
	}
	return nil
}

func (c *Console) readAsset(name string) error {
	kind, served := assetTypes[path.Ext(name)]
	if !served {
		return nil
	}
	body, err := fs.ReadFile(assetFiles, "assets/"+name)
	if err != nil {
		return fmt.Errorf("read the pages' file %s: %w", name, err)
	}
	if path.Ext(name) == ".css" {
		for file, link := range c.links {
			body = bytes.ReplaceAll(body, []byte("url("+file+")"), []byte("url("+link+")"))
		}
	}
	sum := sha256.Sum256(body)
	link := strings.TrimSuffix(name, path.Ext(name)) + "." + hex.EncodeToString(sum[:6]) + path.Ext(name)
	c.links[name], c.assets[link] = link, Asset{Type: kind, Body: body}
	return nil
}

// Asset finds a file by the name in its link, which changes with its contents.
func (c *Console) Asset(link string) (Asset, bool) {
	asset, there := c.assets[link]
	return asset, there
}

func (c *Console) functions(language Language) template.FuncMap {
	return template.FuncMap{
		"t":       func(key string, values ...any) (string, error) { return say(language, key, values...) },
		"asset":   c.assetLink,
		"fields":  fields,
		"korean":  func() bool { return language == Korean },
		"list":    func(texts ...string) []string { return texts },
		"problem": func(code string) string { return Problem(language, code) },
	}
}

func (c *Console) assetLink(name string) (string, error) {
	link, there := c.links[name]
	if !there {
		return "", fmt.Errorf("the pages have no file %s", name)
	}
	return AssetsPath + link, nil
}

// fields hands several values to a nested template, as pairs of name and value.
func fields(pairs ...any) (map[string]any, error) {
	all := map[string]any{}
	for i := 0; i+1 < len(pairs); i += 2 {
		name, isText := pairs[i].(string)
		if !isText {
			return nil, fmt.Errorf("a field's name is %v", pairs[i])
		}
		all[name] = pairs[i+1]
	}
	return all, nil
}

// Render writes a page in a language.
func (c *Console) Render(language Language, page string, frame Frame, body any) ([]byte, error) {
	parsed, there := c.pages[language][page]
	if !there {
		return nil, fmt.Errorf("there is no page %s in %s", page, language)
	}
	var rendered bytes.Buffer
	frame.Language, frame.Name = language, page
	if err := parsed.Execute(&rendered, view{Frame: frame, Body: body}); err != nil {
		return nil, fmt.Errorf("render the page %s: %w", page, err)
	}
	return rendered.Bytes(), nil
}

// view is what a page is rendered from.
type view struct {
	Frame
	Body any
}

// Frame is what every page has around its own contents.
type Frame struct {
	Language Language
	Name     string // of the page
	System   string // id of the payment system
	Person   string // who is signed in; empty: nobody is
	Path     string // of this page, with its query, to come back to
}

// Other is the same page's address in the other language.
func (f Frame) Other() string {
	other := Korean
	if f.Language == Korean {
		other = English
	}
	separator := "?"
	if strings.Contains(f.Path, "?") {
		separator = "&"
	}
	return f.Path + separator + "lang=" + string(other)
}

// Initial is the first letter of the person's name.
func (f Frame) Initial() string {
	for _, letter := range f.Person {
		return strings.ToUpper(string(letter))
	}
	return ""
}
