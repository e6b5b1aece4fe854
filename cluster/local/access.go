package local

// DSNs name the databases of one system, per account. Each ends in the slash that
// a schema's name follows.
type DSNs struct {
	Source        string   `json:"source"`   // as nodes write: no DDL
	Replicas      []string `json:"replicas"` // as nodes read
	Migrate       string   `json:"migrate"`  // as migrations run
	Admin         string   `json:"admin"`    // the source's root
	AdminReplicas []string `json:"admin_replicas"`
}

// DSNs returns how to reach the databases of a system, which must be one of the
// cluster's.
func (c *Cluster) DSNs(system string) DSNs {
	for _, s := range c.systems {
		if s.id == system {
			return s.dsns()
		}
	}
	panic("local: the cluster has no system " + system)
}

func (s *system) dsns() DSNs {
	source, replicas := s.servers()
	all := DSNs{
		Source:  source.dsn(accountNode, s.secrets.Node, ""),
		Migrate: source.dsn(accountMigrate, s.secrets.Migrate, ""),
		Admin:   source.rootDSN(""),
	}
	for _, replica := range replicas {
		all.Replicas = append(all.Replicas, replica.dsn(accountRead, s.secrets.Read, ""))
		all.AdminReplicas = append(all.AdminReplicas, replica.rootDSN(""))
	}
	return all
}
