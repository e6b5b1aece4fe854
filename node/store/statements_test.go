package store_test

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// source is the program's text, in which statements are looked for.
type source struct {
	files     *token.FileSet
	functions []*function
	calls     map[string][]site           // of functions and methods, by their name; "tx.queue" is a transaction's
	values    map[string][]ast.Expr       // constants and variables of packages, by package and name
	fields    map[string]map[string]int   // string fields of structs and their places, by type
	literals  map[string][]*composite     // composite literals by type
	seen      map[*ast.BasicLit]bool      // literals that became part of a statement
	all       map[*ast.BasicLit]*function // literals that begin as a statement does
}

type function struct {
	*ast.FuncDecl
	pkg string
}

// name is what calls of the function are found by.
func (f *function) name() string {
	if f.Recv != nil && len(f.Recv.List[0].Names) == 1 {
		return qualified(f.Recv.List[0].Names[0], f.Name.Name)
	}
	return f.Name.Name
}

// qualified tells a transaction's queue from other methods of that name, by what transactions are called everywhere.
func qualified(receiver ast.Expr, method string) string {
	if variable, is := receiver.(*ast.Ident); is && variable.Name == "tx" && (method == "queue" || method == "ask") {
		return "tx." + method
	}
	return method
}

type site struct {
	*ast.CallExpr
	in *function
}

type composite struct {
	*ast.CompositeLit
	in *function
}

type statement struct{ place, text string }

// overlaid is where the text of a file stands: a removed guard's comes from elsewhere.
func overlaid(tb testing.TB, path string) string {
	tb.Helper()
	overlay := os.Getenv("MUTANT_SOURCES")
	if overlay == "" {
		return path
	}
	text, err := os.ReadFile(overlay)
	must(tb, err)
	var replaced struct{ Replace map[string]string }
	must(tb, json.Unmarshal(text, &replaced))
	full, err := filepath.Abs(path)
	must(tb, err)
	if other := replaced.Replace[full]; other != "" {
		return other
	}
	return path
}

// readSources reads the program below the directories, without tests and what serves them.
func readSources(tb testing.TB, dirs ...string) *source {
	tb.Helper()
	s := &source{
		token.NewFileSet(), nil,
		map[string][]site{},
		map[string][]ast.Expr{},
		map[string]map[string]int{},
		map[string][]*composite{},
		map[*ast.BasicLit]bool{},
		map[*ast.BasicLit]*function{},
	}
	for _, dir := range dirs {
		must(tb, filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") ||
				strings.Contains(path, "storetest") || strings.Contains(path, "remit/sim") {
				return err
			}
			text, err := os.ReadFile(overlaid(tb, path))
			if err != nil {
				return err
			}
			file, err := parser.ParseFile(s.files, path, text, parser.SkipObjectResolution)
			if err == nil {
				s.read(filepath.Dir(path), file)
			}
			return err
		}))
	}
	return s
}

// verbs are how statements begin; they are written in capitals, unlike what is told to people.
var verbs = regexp.MustCompile(`^\s*\(?(COMMIT|ROLLBACK|(SELECT|INSERT|UPDATE|DELETE|REPLACE|SHOW|SET|DO|CREATE|ALTER|DROP|START|` +
	`BEGIN|LOCK|KILL|CALL|WITH|TRUNCATE|SAVEPOINT|RELEASE|USE|EXPLAIN|ANALYZE|GRANT|FLUSH|HANDLER|LOAD)\s.*)$`)

func (s *source) read(pkg string, file *ast.File) {
	for _, decl := range file.Decls {
		in := &function{pkg: pkg, FuncDecl: &ast.FuncDecl{Name: ast.NewIdent(""), Type: &ast.FuncType{Params: &ast.FieldList{}}}}
		if f, is := decl.(*ast.FuncDecl); is {
			in.FuncDecl = f
			s.functions = append(s.functions, in)
		}
		ast.Inspect(decl, func(node ast.Node) bool {
			switch node := node.(type) {
			case *ast.CallExpr:
				name := called(node)
				s.calls[name] = append(s.calls[name], site{node, in})
			case *ast.ValueSpec:
				if in.Name.Name == "" {
					for i, name := range node.Names {
						if i < len(node.Values) {
							s.values[pkg+"."+name.Name] = append(s.values[pkg+"."+name.Name], node.Values[i])
						}
					}
				}
			case *ast.TypeSpec:
				s.readStruct(node)
			case *ast.CompositeLit:
				s.readLiteral(node, in)
			case *ast.BasicLit:
				if text, err := strconv.Unquote(node.Value); err == nil && node.Kind == token.STRING && verbs.MatchString(firstLine(text)) {
					s.all[node] = in
				}
			case *ast.ImportSpec:
				return false
			}
			return true
		})
	}
}

func firstLine(text string) string { line, _, _ := strings.Cut(text, "\n"); return line }

func called(call *ast.CallExpr) string {
	switch f := call.Fun.(type) {
	case *ast.Ident:
		return f.Name
	case *ast.SelectorExpr:
		return qualified(f.X, f.Sel.Name)
	}
	return ""
}

func (s *source) readStruct(spec *ast.TypeSpec) {
	if structure, is := spec.Type.(*ast.StructType); is {
		fields, place := map[string]int{}, 0
		for _, field := range structure.Fields.List {
			for _, name := range field.Names {
				if kind, is := field.Type.(*ast.Ident); is && kind.Name == "string" {
					fields[name.Name] = place
				}
				place++
			}
		}
		s.fields[spec.Name.Name] = fields
	}
}

func (s *source) readLiteral(literal *ast.CompositeLit, in *function) {
	add := func(kind ast.Expr, literal *ast.CompositeLit) {
		if name, is := kind.(*ast.Ident); is {
			s.literals[name.Name] = append(s.literals[name.Name], &composite{literal, in})
		}
	}
	if array, is := literal.Type.(*ast.ArrayType); is {
		for _, element := range literal.Elts {
			if inner, is := element.(*ast.CompositeLit); is && inner.Type == nil {
				add(array.Elt, inner)
			}
		}
		return
	}
	add(literal.Type, literal)
}

// statements builds all that is handed to the driver, at once or to leave together with others, with the dialect that one
// function makes and without another's.
func (s *source) statements(tb testing.TB, dialect, without string) (found []statement) {
	tb.Helper()
	senders := map[string]int{"ExecContext": 1, "QueryContext": 1, "QueryRowContext": 1, "PrepareContext": 1, "tx.queue": 0, "tx.ask": 0}
	for name, place := range senders {
		for _, call := range s.calls[name] {
			if slices.Contains([]string{"execAll", "answerAll", "QueryContext"}, call.in.Name.Name) {
				continue // what was queued, or asked, or is handed on by who answers for a connection
			}
			e := &evaluation{source: s, without: without, inside: map[*ast.CallExpr]bool{}}
			for _, text := range e.ofCall(call, place, nil) {
				for _, part := range apart(text) {
					found = append(found, statement{s.files.Position(call.Pos()).String(), part})
				}
			}
			for _, problem := range e.problems {
				tb.Errorf("a statement cannot be built: %s", problem)
			}
		}
	}
	for _, text := range s.session(tb, dialect) {
		found = append(found, statement{"session of " + dialect, "SET " + text + " = 1"})
	}
	return found
}

// apart is COMMIT and the question that leaves with it, or the text as it is: nothing else is joined before it is built.
func apart(text string) []string {
	const commit = "COMMIT"
	if question, joined := strings.CutPrefix(text, commit+";"); joined {
		return []string{commit, question}
	}
	return []string{text}
}

// session lists the variables that connections are given: keys of Params, and what the dialect names.
func (s *source) session(tb testing.TB, dialect string) (names []string) {
	tb.Helper()
	for _, f := range s.functions {
		ast.Inspect(f.FuncDecl, func(node ast.Node) bool {
			if index, is := node.(*ast.IndexExpr); is {
				params, is := index.X.(*ast.SelectorExpr)
				if literal, constant := index.Index.(*ast.BasicLit); is && constant && params.Sel.Name == "Params" {
					name, _ := strconv.Unquote(literal.Value)
					names = append(names, name)
				}
			}
			if returned, is := node.(*ast.ReturnStmt); is && f.Name.Name == dialect && len(returned.Results) == 2 {
				name, _ := strconv.Unquote(returned.Results[0].(*ast.BasicLit).Value)
				names = append(names, name)
			}
			if pair, is := node.(*ast.KeyValueExpr); is && f.Name.Name == dialect && pair.Key.(*ast.Ident).Name == "isolation" {
				name, _ := strconv.Unquote(pair.Value.(*ast.BasicLit).Value)
				names = append(names, name)
			}
			return true
		})
	}
	if len(names) < 8 {
		tb.Errorf("connections are given the variables %v; more are known", names)
	}
	return names
}

// forgotten fails for literals that begin as statements do and are part of none.
func (s *source) forgotten(tb testing.TB, without string) {
	tb.Helper()
	for literal, in := range s.all {
		if !s.seen[literal] && in.Name.Name != without {
			tb.Errorf("%s: this looks like a statement, and none was built from it: %s", s.files.Position(literal.Pos()), literal.Value)
		}
	}
}

// evaluation finds out which texts an expression can have.
type evaluation struct {
	*source
	without  string // a function whose literals do not count
	depth    int
	problems []string
	inside   map[*ast.CallExpr]bool // calls that are being followed
}

const (
	depthMax = 40
	textsMax = 400
)

// ofCall evaluates an argument. Where it depends on the parameters of the function around, each call of that function
// is followed for itself, so that arguments that belong together stay together.
func (e *evaluation) ofCall(call site, place int, bound map[string][]string) []string {
	if place >= len(call.Args) {
		return nil
	}
	if bound != nil || !e.parametric(call.Args[place], call.in) {
		return e.texts(call.Args[place], call.in, bound)
	}
	if e.inside[call.CallExpr] {
		return nil // methods of one name that call one another
	}
	e.inside[call.CallExpr] = true
	defer delete(e.inside, call.CallExpr)
	var found []string
	for _, outer := range e.calls[call.in.name()] {
		if len(outer.Args) < required(call.in.Type) {
			continue // of another function with the same name
		}
		bound := map[string][]string{}
		for i, name := range parameters(call.in.Type) {
			if i < len(outer.Args) && e.mentions(call.Args[place], call.in, name) {
				bound[name] = e.ofCall(outer, i, nil)
			}
		}
		found = append(found, e.texts(call.Args[place], call.in, bound)...)
	}
	return unique(found)
}

func parameters(of *ast.FuncType) (names []string) {
	for _, field := range of.Params.List {
		for _, name := range field.Names {
			names = append(names, name.Name)
		}
	}
	return names
}

// required is how many arguments a call has at least.
func required(by *ast.FuncType) int {
	names, fields := parameters(by), by.Params.List
	if len(fields) > 0 {
		if _, variadic := fields[len(fields)-1].Type.(*ast.Ellipsis); variadic {
			return len(names) - 1
		}
	}
	return len(names)
}

func (e *evaluation) parametric(expression ast.Expr, in *function) bool {
	return slices.ContainsFunc(parameters(in.Type), func(name string) bool { return e.mentions(expression, in, name) })
}

// mentions tells whether a parameter is part of the text, by itself or through a variable.
func (e *evaluation) mentions(expression ast.Expr, in *function, parameter string) bool {
	switch x := expression.(type) {
	case *ast.Ident:
		return x.Name == parameter || slices.ContainsFunc(assigned(in, x.Name), func(value ast.Expr) bool {
			own, is := value.(*ast.Ident)
			return (!is || own.Name != x.Name) && e.mentions(value, in, parameter)
		})
	case *ast.BinaryExpr:
		return e.mentions(x.X, in, parameter) || e.mentions(x.Y, in, parameter)
	case *ast.ParenExpr:
		return e.mentions(x.X, in, parameter)
	case *ast.CallExpr:
		if name := called(x); name != "Repeat" && name != "Sprintf" {
			return false
		}
		return slices.ContainsFunc(x.Args, func(arg ast.Expr) bool { return e.mentions(arg, in, parameter) })
	}
	return false
}

// assigned lists what a name is given inside a function.
func assigned(in *function, name string) (values []ast.Expr) {
	is := func(expression ast.Expr) bool { id, is := expression.(*ast.Ident); return is && id.Name == name }
	ast.Inspect(in.FuncDecl, func(node ast.Node) bool {
		switch node := node.(type) {
		case *ast.AssignStmt:
			for i, left := range node.Lhs {
				if is(left) && len(node.Lhs) == len(node.Rhs) {
					values = append(values, node.Rhs[i])
				}
			}
		case *ast.ValueSpec:
			for i, left := range node.Names {
				if left.Name == name && i < len(node.Values) {
					values = append(values, node.Values[i])
				}
			}
		case *ast.RangeStmt:
			if literal, constant := node.X.(*ast.CompositeLit); constant && node.Value != nil && is(node.Value) {
				values = append(values, literal.Elts...)
			}
		}
		return true
	})
	return values
}

// texts evaluates an expression inside a function, some of whose parameters are bound.
func (e *evaluation) texts(expression ast.Expr, in *function, bound map[string][]string) []string {
	if e.depth++; e.depth > depthMax {
		return e.problem(expression, "too deep")
	}
	defer func() { e.depth-- }()
	switch x := expression.(type) {
	case *ast.BasicLit:
		text, err := strconv.Unquote(x.Value)
		if err != nil {
			return e.problem(x, "not a string")
		}
		e.seen[x] = true
		return []string{text}
	case *ast.BinaryExpr:
		return product(e.texts(x.X, in, bound), e.texts(x.Y, in, bound))
	case *ast.ParenExpr:
		return e.texts(x.X, in, bound)
	case *ast.Ident:
		return e.named(x, in, bound)
	case *ast.SelectorExpr:
		return e.field(x, in)
	case *ast.CallExpr:
		return e.call(x, in, bound)
	}
	return e.problem(expression, "not understood")
}

func (e *evaluation) named(x *ast.Ident, in *function, bound map[string][]string) (found []string) {
	if texts, is := bound[x.Name]; is {
		return texts
	}
	if place := slices.Index(parameters(in.Type), x.Name); place >= 0 {
		for _, outer := range e.calls[in.name()] {
			if len(outer.Args) >= required(in.Type) {
				found = append(found, e.ofCall(outer, place, nil)...)
			}
		}
		return unique(found)
	}
	values := assigned(in, x.Name)
	if len(values) == 0 {
		values = e.values[in.pkg+"."+x.Name]
	}
	for _, value := range values {
		found = append(found, e.texts(value, in, bound)...)
	}
	if len(found) == 0 {
		return e.problem(x, "its value is not known")
	}
	return unique(found)
}

// field lists what literals of structs give to a field of that name.
func (e *evaluation) field(x *ast.SelectorExpr, in *function) (found []string) {
	if x.Sel.Name == "Query" {
		return nil // a statement of package saga, which checks its own
	}
	for kind, fields := range e.fields {
		place, has := fields[x.Sel.Name]
		if !has || (kind != "dialect" && kind != "invariant" && kind != "keyring") {
			continue
		}
		for _, literal := range e.literals[kind] {
			for i, element := range literal.Elts {
				pair, keyed := element.(*ast.KeyValueExpr)
				switch {
				case literal.in.Name.Name == e.without:
				case keyed && pair.Key.(*ast.Ident).Name == x.Sel.Name:
					found = append(found, e.texts(pair.Value, literal.in, nil)...)
				case !keyed && i == place:
					found = append(found, e.texts(element, literal.in, nil)...)
				}
			}
		}
	}
	if len(found) == 0 {
		return e.problem(x, "no literal fills this field")
	}
	return unique(found)
}

func (e *evaluation) call(x *ast.CallExpr, in *function, bound map[string][]string) []string {
	switch called(x) {
	case "marks":
		return []string{"?, ?"}
	case "take": // the rows of a bulk: every form in which it writes a value
		return []string{"(NULL, x'', x'6b', -1, 18446744073709551615, true, '2026-11-27 13:00:00.000001'), (NULL, x'', x'6b', -1, 1, false, NULL)"}
	case "text": // of conditions: all that the package can give them, at once
		var parts []string
		for _, call := range e.calls["and"] {
			parts = append(parts, e.ofCall(call, 0, nil)...)
		}
		return []string{" WHERE " + strings.Join(unique(parts), " AND ")}
	case "Repeat":
		return e.texts(x.Args[0], in, bound)
	case "Join":
		return e.joined(x, in, bound)
	case "Sprintf":
		found := e.texts(x.Args[0], in, bound)
		for _, arg := range x.Args[1:] {
			if !strings.Contains(strings.Join(found, ""), "%s") {
				break
			}
			var filled []string
			for _, text := range found {
				for _, value := range e.texts(arg, in, bound) {
					filled = append(filled, strings.Replace(text, "%s", value, 1))
				}
			}
			found = filled
		}
		for i := range found {
			found[i] = strings.ReplaceAll(found[i], "%d", "1")
		}
		return found
	}
	return e.problem(x, "a call that is not understood")
}

// joined joins what is appended to a slice, twice.
func (e *evaluation) joined(x *ast.CallExpr, in *function, bound map[string][]string) (found []string) {
	name, is := x.Args[0].(*ast.Ident)
	if !is {
		return e.problem(x, "what is joined is not known")
	}
	for _, value := range assigned(in, name.Name) {
		if appended, is := value.(*ast.CallExpr); is && called(appended) == "append" {
			for _, part := range e.texts(appended.Args[1], in, bound) {
				for _, between := range e.texts(x.Args[1], in, bound) {
					found = append(found, part+between+part)
				}
			}
		}
	}
	return found
}

func (e *evaluation) problem(at ast.Node, what string) []string {
	e.problems = append(e.problems, e.files.Position(at.Pos()).String()+": "+what)
	return nil
}

func product(left, right []string) (found []string) {
	for _, l := range left {
		for _, r := range right {
			if found = append(found, l+r); len(found) > textsMax {
				return found
			}
		}
	}
	return found
}

func unique(texts []string) []string { return slices.Compact(slices.Sorted(slices.Values(texts))) }
