package api

import (
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// openAPIFile is what the reference page takes from openapi.yaml. Maps whose order a reader should meet are nodes.
type openAPIFile struct {
	Info struct {
		Title, Version, Summary, Description string
	}
	Tags []struct {
		Name, Description string
	}
	Security   securityEntry // of operations that do not say their own
	Paths      yaml.Node
	Problems   []map[string]string `yaml:"x-problems"`
	Components struct {
		Parameters map[string]parameterEntry
		Responses  map[string]responseEntry
		Schemas    yaml.Node
	}
}

type operationEntry struct {
	Tags        []string
	Summary     string
	Description string
	Security    securityEntry
	Parameters  []parameterEntry
	RequestBody struct {
		Content map[string]contentEntry
	} `yaml:"requestBody"`
	Responses yaml.Node
}

type parameterEntry struct {
	Ref         string `yaml:"$ref"`
	Name, In    string
	Required    bool
	Description string
	Schema      schemaEntry
}

type responseEntry struct {
	Ref         string `yaml:"$ref"`
	Description string
	Content     map[string]contentEntry
}

type contentEntry struct {
	Schema  schemaEntry
	Example yaml.Node
}

type schemaEntry struct {
	Ref         string `yaml:"$ref"`
	Type        yaml.Node
	Description string
	Format      string
	Enum        []string
	Pattern     string
	Required    []string
	Properties  yaml.Node
	Items       *schemaEntry
	OneOf       []schemaEntry `yaml:"oneOf"`
}

// reference is the page's content.
type reference struct {
	Title, Version, Summary, Description string
	Sections                             []referenceSection
	Schemas                              []referenceSchema
	Problems                             []map[string]string
}

type referenceSection struct {
	Name, Description string
	Operations        []referenceOperation
}

type referenceOperation struct {
	Method, Path, Summary, Description, Scope, Body, Example string
	Parameters                                               []parameterEntry
	Answers                                                  []referenceAnswer
}

type referenceAnswer struct{ Status, Description, Schema string }

type referenceSchema struct {
	Name, Description, Type string
	Fields                  []referenceField
}

type referenceField struct {
	Name, Type, Description string
	Required                bool
}

func (f *openAPIFile) reference() reference {
	page := reference{
		Title: f.Info.Title, Version: f.Info.Version, Summary: f.Info.Summary, Description: f.Info.Description, Problems: f.Problems,
	}
	operations := map[string][]referenceOperation{}
	eachPair(&f.Paths, func(path string, item *yaml.Node) {
		var shared struct{ Parameters []parameterEntry }
		_ = item.Decode(&shared)
		eachPair(item, func(method string, node *yaml.Node) {
			var entry operationEntry
			if method == "parameters" || node.Decode(&entry) != nil || len(entry.Tags) == 0 {
				return
			}
			entry.Parameters = append(slices.Clone(shared.Parameters), entry.Parameters...)
			operations[entry.Tags[0]] = append(operations[entry.Tags[0]], f.operation(method, path, entry))
		})
	})
	for _, tag := range f.Tags {
		page.Sections = append(page.Sections, referenceSection{tag.Name, tag.Description, operations[tag.Name]})
	}
	eachPair(&f.Components.Schemas, func(name string, node *yaml.Node) {
		var entry schemaEntry
		if node.Decode(&entry) == nil {
			page.Schemas = append(page.Schemas, entry.named(name))
		}
	})
	return page
}

func (f *openAPIFile) operation(method, path string, entry operationEntry) referenceOperation {
	shown := referenceOperation{Method: strings.ToUpper(method), Path: path, Summary: entry.Summary, Description: entry.Description}
	shown.Scope = entry.Security.text()
	for _, parameter := range entry.Parameters {
		if parameter.Ref != "" {
			parameter = f.Components.Parameters[lastPart(parameter.Ref)]
		}
		shown.Parameters = append(shown.Parameters, parameter)
	}
	for _, content := range entry.RequestBody.Content {
		shown.Body, shown.Example = content.Schema.text(), content.example()
	}
	eachPair(&entry.Responses, func(status string, node *yaml.Node) {
		var response responseEntry
		if node.Decode(&response) != nil {
			return
		}
		if response.Ref != "" {
			response = f.Components.Responses[lastPart(response.Ref)]
		}
		answer := referenceAnswer{Status: status, Description: response.Description}
		for _, content := range response.Content {
			answer.Schema = content.Schema.text()
		}
		shown.Answers = append(shown.Answers, answer)
	})
	return shown
}

// text tells who may use an operation, for readers; empty is everybody, and who signs.
func (s securityEntry) text() string {
	var ways []string
	for _, requirement := range s {
		for _, names := range requirement {
			if way := strings.Join(names, " "); way != "" && !slices.Contains(ways, way) {
				ways = append(ways, way)
			}
		}
	}
	return strings.Join(ways, " or ")
}

// example shows the body of a request as it is sent.
func (c contentEntry) example() string {
	var value any
	if c.Example.Kind == 0 || c.Example.Decode(&value) != nil {
		return ""
	}
	return string(encode(value))
}

func (s schemaEntry) named(name string) referenceSchema {
	shown := referenceSchema{Name: name, Description: s.Description, Type: s.text()}
	eachPair(&s.Properties, func(field string, node *yaml.Node) {
		var entry schemaEntry
		if node.Decode(&entry) == nil {
			shown.Fields = append(shown.Fields, referenceField{
				Name: field, Type: entry.text(), Description: entry.Description, Required: slices.Contains(s.Required, field),
			})
		}
	})
	return shown
}

// text is a type in a few words; the name of a schema when it has one.
func (s schemaEntry) text() string {
	switch {
	case s.Ref != "":
		return lastPart(s.Ref)
	case s.Items != nil:
		return "list of " + s.Items.text()
	case len(s.OneOf) > 0:
		names := make([]string, 0, len(s.OneOf))
		for _, one := range s.OneOf {
			names = append(names, one.text())
		}
		return strings.Join(names, " or ")
	case len(s.Enum) > 0:
		return strings.Join(s.Enum, " | ")
	}
	var types []string
	if s.Type.Kind == yaml.SequenceNode {
		_ = s.Type.Decode(&types)
	} else {
		types = []string{s.Type.Value}
	}
	return strings.Join(types, " or ")
}

func lastPart(ref string) string { return ref[strings.LastIndexByte(ref, '/')+1:] }

// eachPair walks a mapping in the order of the file.
func eachPair(mapping *yaml.Node, visit func(key string, value *yaml.Node)) {
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		visit(mapping.Content[i].Value, mapping.Content[i+1])
	}
}
