package storetest

// What tests of the copied schema need.
type Schema = schema

var (
	In       = (*schema).in
	TablesOf = tablesOf
)
