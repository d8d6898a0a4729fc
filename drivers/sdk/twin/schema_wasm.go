//go:build wasip1

package twin

// types are known natively only: a guest carries nothing of them.
type types struct{}

func noteSettings[S, M any](*Driver[S, M])                   {}
func noteCommand[S, M, In, Out any](*Driver[S, M], string)   {}
func noteProperty[S, M, V any](d *Driver[S, M], name string) {}
