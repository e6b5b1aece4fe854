// Package chaos keeps the clients of a bank busy on a real cluster while its processes are killed, stopped and cut off, and
// then holds what clients were told against the books. DESIGN.md says how.
package chaos
