package sim

import (
	"encoding/json"
	"strconv"
)

// object builds a JSON object whose members keep their order, as the firmware writes them.
type object []byte

func (o *object) key(name string) {
	if len(*o) == 0 {
		*o = append(*o, '{')
	} else {
		*o = append(*o, ',')
	}
	*o = strconv.AppendQuote(*o, name)
	*o = append(*o, ':')
}

func (o *object) text(name, value string) {
	o.key(name)
	quoted, err := json.Marshal(value)
	if err != nil {
		panic(err) // a string has always JSON
	}
	*o = append(*o, quoted...)
}

func (o *object) whole(name string, value int) {
	o.key(name)
	*o = strconv.AppendInt(*o, int64(value), 10)
}

// number writes value with a fixed number of decimals.
func (o *object) number(name string, value float64, decimals int) {
	o.key(name)
	*o = strconv.AppendFloat(*o, value, 'f', decimals, 64)
}

func (o *object) raw(name, value string) {
	o.key(name)
	*o = append(*o, value...)
}

func (o object) String() string {
	if len(o) == 0 {
		return "{}"
	}
	return string(o) + "}"
}
