package actors

// LoseSource has a twin that computes a property hear late that one of those that it computes it of was deleted.
func (e *Engine) LoseSource(subscriber, source, property string) {
	e.lose(follow{subscriber: subscriber, system: derivedSystem, name: source, property: property})
}
