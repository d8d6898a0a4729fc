package history

func childFeed() error   { return nil }
func childRemote() error { return nil }
func childFill() error   { return nil }
