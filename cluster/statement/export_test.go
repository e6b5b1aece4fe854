package statement

// RootsMax is how many roots a Memory keeps.
const RootsMax = rootsMax

// Len counts the roots that are remembered.
func (m *Memory) Len() int { return len(m.known) }
