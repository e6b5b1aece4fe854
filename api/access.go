package api

import (
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"lockstep/api/auth"
)

// access says who may use a route. The OpenAPI file is where it is declared, in each operation's security, and this is
// that declaration as the edge enforces it: what the file does not open is shut.
type access struct {
	open bool          // to everybody
	peer bool          // to other systems, which sign
	any  []auth.Scopes // to callers who have all scopes of one of these
	need string        // the first of them in words, for a refusal
}

// peerScheme is the file's name for signed requests of other systems; every other scheme proves a caller with scopes.
const peerScheme = "peer"

// admits tells whether a caller with these scopes may use the route.
func (a access) admits(scopes auth.Scopes) bool {
	return slices.ContainsFunc(a.any, func(needed auth.Scopes) bool { return scopes&needed == needed })
}

// securityEntry is the security of an operation (OpenAPI 3.1, 4.8.30): one of the requirements has to be met.
type securityEntry []map[string][]string

// access reads a declaration. It fails on a scope that no token can have, for nobody could use the route.
func (s securityEntry) access() (access, error) {
	if len(s) == 0 {
		return access{open: true}, nil
	}
	var a access
	for _, requirement := range s {
		for scheme, names := range requirement {
			if scheme == peerScheme {
				a.peer = true
				continue
			}
			text := strings.Join(names, " ")
			scopes, err := auth.ParseNeeds(text)
			if err != nil {
				return access{}, err
			}
			if len(a.any) == 0 {
				a.need = text
			}
			a.any = append(a.any, scopes)
		}
	}
	if a.peer == (len(a.any) > 0) {
		return access{}, fmt.Errorf("a route is for callers or for peers, not for %v", s)
	}
	return a, nil
}

// accesses reads from the OpenAPI file who may use each operation, by method and path.
func accesses(file *openAPIFile) (map[string]access, error) {
	all, failure := map[string]access{}, error(nil)
	eachPair(&file.Paths, func(path string, item *yaml.Node) {
		eachPair(item, func(method string, node *yaml.Node) {
			if method == "parameters" || failure != nil {
				return
			}
			entry := struct{ Security *securityEntry }{}
			if err := node.Decode(&entry); err != nil {
				failure = fmt.Errorf("read the security of %s %s: %w", method, path, err)
				return
			}
			security := file.Security
			if entry.Security != nil {
				security = *entry.Security
			}
			a, err := security.access()
			if err != nil {
				failure = fmt.Errorf("the security of %s %s: %w", method, path, err)
				return
			}
			all[strings.ToUpper(method)+" "+path] = a
		})
	})
	return all, failure
}

// guarded is a route with the access that the file declares for it.
type guarded struct {
	route
	access access
}

// guard fails for a route that the file does not know, since nobody has said who may use it.
func guard(routes []route, file *openAPIFile) ([]guarded, error) {
	known, err := accesses(file)
	if err != nil {
		return nil, err
	}
	all := make([]guarded, 0, len(routes))
	for _, r := range routes {
		a, there := known[r.name()]
		if !there {
			return nil, fmt.Errorf("openapi.yaml does not say who may use %s", r.name())
		}
		all = append(all, guarded{r, a})
	}
	return all, nil
}
