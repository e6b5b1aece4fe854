package console

// Phrases are all texts, in English and Korean.
func Phrases() map[string][2]string {
	all := map[string][2]string{}
	for key, text := range phrases {
		all[key] = [2]string{text.en, text.ko}
	}
	return all
}
