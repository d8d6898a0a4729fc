package drivers

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// ManifestSection is the name of the WASM custom section that holds the manifest.
const ManifestSection = "driver.manifest"

// MaxManifest bounds a manifest's bytes.
const MaxManifest = 1 << 20

// ErrNoManifest is the error of a file without a manifest.
var ErrNoManifest = errors.New("the file has no custom section " + ManifestSection)

var wasmMagic = []byte("\x00asm\x01\x00\x00\x00")

// AppendManifest returns file with manifest, JSON, as its only custom section of that name. The manifest is not checked.
func AppendManifest(file, manifest []byte) ([]byte, error) {
	out := make([]byte, 0, len(file)+len(manifest)+32)
	out = append(out, wasmMagic...)
	err := eachSection(file, func(id byte, name string, whole, _ []byte) error {
		if id != 0 || name != ManifestSection {
			out = append(out, whole...)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("append manifest: %w", err)
	}
	body := binary.AppendUvarint(nil, uint64(len(ManifestSection)))
	body = append(append(body, ManifestSection...), manifest...)
	out = append(out, 0)
	out = binary.AppendUvarint(out, uint64(len(body)))
	return append(out, body...), nil
}

// ReadManifest returns the manifest's JSON, which aliases file; ErrNoManifest where there is none. Two are an error.
func ReadManifest(file []byte) ([]byte, error) {
	var found []byte
	err := eachSection(file, func(id byte, name string, _, content []byte) error {
		if id != 0 || name != ManifestSection {
			return nil
		}
		if found != nil {
			return errors.New("the file has two custom sections " + ManifestSection)
		}
		if len(content) > MaxManifest {
			return fmt.Errorf("the manifest has %d bytes, more than %d", len(content), MaxManifest)
		}
		found = content
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read manifest: %w", err)
	}
	if found == nil {
		return nil, ErrNoManifest
	}
	return found, nil
}

// eachSection walks a module's sections: whole with the header, content behind a custom section's name.
func eachSection(file []byte, fn func(id byte, name string, whole, content []byte) error) error {
	if len(file) < len(wasmMagic) || string(file[:len(wasmMagic)]) != string(wasmMagic) {
		return errors.New("the file is no WASM module")
	}
	for at := len(wasmMagic); at < len(file); {
		id := file[at]
		size, n := binary.Uvarint(file[at+1:])
		if n <= 0 || n > 5 || size > uint64(len(file)-at-1-n) {
			return fmt.Errorf("the section at byte %d runs past the end of the file", at)
		}
		start := at + 1 + n
		end := start + int(size)
		name, content := "", file[start:end]
		if id == 0 {
			length, n := binary.Uvarint(content)
			if n <= 0 || n > 5 || length > uint64(len(content)-n) {
				return fmt.Errorf("the custom section at byte %d has no name", at)
			}
			name, content = string(content[n:n+int(length)]), content[n+int(length):]
		}
		if err := fn(id, name, file[at:end], content); err != nil {
			return err
		}
		at = end
	}
	return nil
}
