package seed

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Offsets of ECMA-119: 8.4 for the primary volume descriptor, 9.1 for a
// directory record.
const (
	sector = 2048

	pvdSystem      = 8   // 32 bytes
	pvdSpaceSize   = 80  // sectors of the volume, both byte orders
	pvdTableSize   = 132 // bytes of a path table, both byte orders
	pvdTableL      = 140 // sector of the little-endian path table
	pvdTableM      = 148 // sector of the big-endian path table
	pvdRoot        = 156 // directory record of the root, 34 bytes
	pvdApplication = 574 // 128 bytes
	pvdCreated     = 813 // 17 bytes, as are the next two
	pvdModified    = 830
	pvdEffective   = 864

	recordExtent = 2  // sector, both byte orders
	recordLength = 10 // bytes, both byte orders
	recordDate   = 18 // 7 bytes
	recordName   = 32 // its length, then the name
)

// errLayout says that the library wrote something this code does not know.
var errLayout = errors.New("unexpected layout")

// seal makes an image of a blank one, which stays as it is: it puts the words behind
// it, replaces what depends on the clock and the platform by constants, and adds the path
// tables, without which libarchive takes the image for an empty tar.
func seal(blank []byte, made time.Time, files []file) ([]byte, error) {
	end := len(blank) / sector
	sectors := end + 2 // the path tables
	for _, f := range files {
		sectors += sectorsOf(len(f.data))
	}
	image := make([]byte, max(sectors, minSectors)*sector)
	copy(image, blank)
	pvd, err := extent(image, 16, sector)
	if err != nil {
		return nil, err
	}
	if string(pvd[:7]) != "\x01CD001\x01" || len(blank)%sector != 0 {
		return nil, fmt.Errorf("%w: no primary volume descriptor", errLayout)
	}
	root := pvd[pvdRoot : pvdRoot+34]
	dir, err := recordData(image[:len(blank)], root)
	if err != nil {
		return nil, err
	}
	sealRecordDate(root)
	end, err = fill(image, end, dir, files)
	if err != nil {
		return nil, err
	}
	fixed(pvd[pvdSystem:pvdSystem+32], "LINUX")
	fixed(pvd[pvdApplication:pvdApplication+128], "BAKE")
	date := made.Format("20060102150405") + "00\x00"
	for _, at := range []int{pvdCreated, pvdModified, pvdEffective} {
		copy(pvd[at:at+17], date)
	}
	addPathTables(image, pvd, end)
	return image, nil
}

// fill puts each file at the end of what there is, a sector's number, and has its
// directory record point there. Every file must have exactly one record, of a file of no
// bytes, and every record a file. No record crosses the end of a sector: zeros fill it.
// It returns where the end is then.
func fill(image []byte, end int, dir []byte, files []file) (int, error) {
	data := map[string][]byte{}
	for _, f := range files {
		data[f.name+";1"] = f.data
	}
	for len(dir) > 0 {
		n := int(dir[0])
		if n == 0 {
			rest := (len(dir) - 1) / sector * sector
			dir = dir[len(dir)-rest:]
			continue
		}
		if n > len(dir) || n <= recordName || recordName+1+int(dir[recordName]) > n {
			return 0, fmt.Errorf("%w: directory record of %d bytes", errLayout, n)
		}
		record := dir[:n]
		dir = dir[n:]
		sealRecordDate(record)
		name := string(record[recordName+1 : recordName+1+int(record[recordName])])
		if name == "\x00" || name == "\x01" { // the directory itself and its parent
			continue
		}
		words, ok := data[name]
		if length := binary.LittleEndian.Uint32(record[recordLength:]); !ok || length != 0 {
			return 0, fmt.Errorf("%w: %d bytes for %q", errLayout, length, name)
		}
		bothOrders(record[recordExtent:], uint32(end))
		bothOrders(record[recordLength:], uint32(len(words)))
		copy(image[end*sector:], words)
		end += sectorsOf(len(words))
		delete(data, name)
	}
	if len(data) > 0 {
		return 0, fmt.Errorf("%w: %d files have no directory record", errLayout, len(data))
	}
	return end, nil
}

// sectorsOf is how many sectors so many bytes take.
func sectorsOf(n int) int { return (n + sector - 1) / sector }

// minSectors is the least size of an image. libarchive does not recognize one
// that ends within eight sectors of the system area.
const minSectors = 32

// addPathTables puts one sector each for the little- and the big-endian path table at
// the end of the files; an image of minSectors has blank ones behind them. The root is the
// tables' only entry.
func addPathTables(image, pvd []byte, end int) {
	root := binary.LittleEndian.Uint32(pvd[pvdRoot+recordExtent:])
	// Length of the name, no extended attributes, sector, parent, name, padding.
	const entry = 10
	little, big := image[end*sector:], image[(end+1)*sector:]
	little[0], big[0] = 1, 1
	binary.LittleEndian.PutUint32(little[2:], root)
	binary.BigEndian.PutUint32(big[2:], root)
	binary.LittleEndian.PutUint16(little[6:], 1)
	binary.BigEndian.PutUint16(big[6:], 1)

	bothOrders(pvd[pvdTableSize:], entry)
	binary.LittleEndian.PutUint32(pvd[pvdTableL:], uint32(end))
	binary.BigEndian.PutUint32(pvd[pvdTableM:], uint32(end+1))
	bothOrders(pvd[pvdSpaceSize:], uint32(len(image)/sector))
}

// recordData returns the bytes a directory record points at.
func recordData(image, record []byte) ([]byte, error) {
	return extent(image,
		binary.LittleEndian.Uint32(record[recordExtent:]),
		binary.LittleEndian.Uint32(record[recordLength:]))
}

func extent(image []byte, at, length uint32) ([]byte, error) {
	from := int64(at) * sector
	to := from + int64(length)
	if to > int64(len(image)) {
		return nil, fmt.Errorf("%w: sector %d is outside the image", errLayout, at)
	}
	return image[from:to:to], nil
}

// sealRecordDate sets the 7 byte date of a directory record, in UTC.
func sealRecordDate(record []byte) {
	year, month, day := epoch.Date()
	copy(record[recordDate:], []byte{byte(year - 1900), byte(month), byte(day), 0, 0, 0, 0})
}

// fixed fills an identifier field with text and spaces.
func fixed(field []byte, text string) {
	copy(field, text+strings.Repeat(" ", len(field)-len(text)))
}

func bothOrders(field []byte, n uint32) {
	binary.LittleEndian.PutUint32(field, n)
	binary.BigEndian.PutUint32(field[4:], n)
}
