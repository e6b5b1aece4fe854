package main

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// switchVariable names the mutant that a process is to have. It does not begin with LOCKSTEP_, which nodes are started
// without.
const switchVariable = "MUTANT_ON"

// single writes the overlay of one mutant.
func single(dir string, m mutant) (string, error) {
	source, err := m.source()
	if err != nil {
		return "", err
	}
	changed := filepath.Join(dir, m.name+".go")
	if err := os.WriteFile(changed, []byte(strings.Replace(source, m.old, m.new, 1)), 0o600); err != nil {
		return "", err
	}
	return writeOverlay(filepath.Join(dir, m.name+".json"), map[string]string{m.file: changed})
}

// source reads the file, in which the text to replace must stand once.
func (m mutant) source() (string, error) {
	source, err := os.ReadFile(m.file)
	if err != nil {
		return "", err
	}
	if n := strings.Count(string(source), m.old); n != 1 || m.old == m.new {
		return "", fmt.Errorf("the text to replace stands %d times in %s", n, m.file)
	}
	return string(source), nil
}

func writeOverlay(path string, files map[string]string) (string, error) {
	replace := map[string]string{}
	for file, by := range files {
		full, err := filepath.Abs(file)
		if err != nil {
			return "", err
		}
		replace[full] = by
	}
	content, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	return path, os.WriteFile(path, content, 0o600)
}

// switchable writes one overlay for all mutants that change the inside of a function, and names them: such a function
// gets a changed copy, and calls it when the mutant is on.
func switchable(dir string, chosen []mutant) (overlay string, switched map[string]bool, err error) {
	switched, files := map[string]bool{}, map[string]string{}
	byFile := map[string][]mutant{}
	for _, m := range chosen {
		byFile[m.file] = append(byFile[m.file], m)
	}
	for file, of := range byFile {
		if filepath.Ext(file) != ".go" {
			continue // a template, say: each of its mutants is compiled by itself
		}
		text, pkg, done, err := withSwitches(file, of)
		if err != nil {
			return "", nil, err
		}
		for _, name := range done {
			switched[name] = true
		}
		if len(done) == 0 {
			continue
		}
		flat := strings.ReplaceAll(file, "/", "-")
		files[file] = filepath.Join(dir, "switched-"+flat)
		variable := filepath.Join(filepath.Dir(file), "mutant_on.go")
		files[variable] = filepath.Join(dir, "variable-"+flat)
		declaration := fmt.Sprintf("package %s\n\nimport \"os\"\n\nvar mutantOn = os.Getenv(%q)\n", pkg, switchVariable)
		for path, text := range map[string]string{files[file]: text, files[variable]: declaration} {
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				return "", nil, err
			}
		}
	}
	overlay, err = writeOverlay(filepath.Join(dir, "all.json"), files)
	return overlay, switched, err
}

// withSwitches is the file with its mutants behind the switch, and the names of those that could be put there. A mutant
// whose text does not stand once is left out; it shows when it is run.
func withSwitches(file string, of []mutant) (text, pkg string, done []string, err error) {
	source, err := os.ReadFile(file)
	if err != nil {
		return "", "", nil, err
	}
	files := token.NewFileSet()
	parsed, err := parser.ParseFile(files, file, source, parser.SkipObjectResolution)
	if err != nil {
		return "", "", nil, err
	}
	offset := func(at token.Pos) int { return files.Position(at).Offset }
	calls := map[int]string{} // to insert, by offset
	var copies strings.Builder
	for i, m := range of {
		at := strings.Index(string(source), m.old)
		if at < 0 || strings.Count(string(source), m.old) != 1 {
			continue
		}
		place := slices.IndexFunc(parsed.Decls, func(decl ast.Decl) bool {
			f, is := decl.(*ast.FuncDecl)
			return is && f.Body != nil && offset(f.Body.Lbrace) < at && at+len(m.old) <= offset(f.Body.Rbrace)
		})
		if place < 0 {
			continue
		}
		function := parsed.Decls[place].(*ast.FuncDecl)
		name := function.Name.Name + "Mutant" + strconv.Itoa(i)
		call, possible := callOf(function, name)
		if !possible {
			continue
		}
		begin, named := offset(function.Pos()), offset(function.Name.Pos())
		changed := string(source[begin:named]) + name + string(source[named+len(function.Name.Name):offset(function.End())])
		copies.WriteString("\n" + strings.Replace(changed, m.old, m.new, 1) + "\n")
		calls[offset(function.Body.Lbrace)+1] += fmt.Sprintf("\nif mutantOn == %q {\n%s\n}\n", m.name, call)
		done = append(done, m.name)
	}
	var switched strings.Builder
	last := 0
	for _, at := range slices.Sorted(maps.Keys(calls)) {
		switched.WriteString(string(source[last:at]) + calls[at])
		last = at
	}
	switched.WriteString(string(source[last:]) + copies.String())
	return switched.String(), parsed.Name.Name, done, nil
}

// callOf calls a function's copy with its own arguments; it cannot when one of them has no name.
func callOf(function *ast.FuncDecl, name string) (call string, possible bool) {
	var arguments []string
	for _, field := range function.Type.Params.List {
		if len(field.Names) == 0 {
			return "", false
		}
		for _, argument := range field.Names {
			if argument.Name == "_" {
				return "", false
			}
			arguments = append(arguments, argument.Name)
		}
		if _, variadic := field.Type.(*ast.Ellipsis); variadic {
			arguments[len(arguments)-1] += "..."
		}
	}
	if function.Recv != nil {
		names := function.Recv.List[0].Names
		if len(names) == 0 || names[0].Name == "_" {
			return "", false
		}
		name = names[0].Name + "." + name
	}
	call = name + "(" + strings.Join(arguments, ", ") + ")"
	if function.Type.Results == nil {
		return call + "\nreturn", true
	}
	return "return " + call, true
}
