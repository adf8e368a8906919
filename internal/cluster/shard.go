package cluster

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
)

// MaxShards is how many there may be: each asks the store for the claims of all hosts.
const MaxShards = 1000

// A Shard is one of several parts of the hosts. The zero Shard is all of them.
type Shard struct{ Index, Of int }

// ParseShard reads I/N, or N with the index that the controller of an Indexed Job has given
// to the pod.
func ParseShard(text, index string) (s Shard, err error) {
	first, second, both := strings.Cut(text, "/")
	if !both {
		first, second = index, text
		if index == "" {
			return s, fmt.Errorf("--shard %s: which one is it? I/N says, or JOB_COMPLETION_INDEX, which an Indexed Job sets", text)
		}
	}
	var wrong error
	s.Index, err = strconv.Atoi(first)
	s.Of, wrong = strconv.Atoi(second)
	if err != nil || wrong != nil || s.Of < 1 || s.Of > MaxShards || s.Index < 0 || s.Index >= s.Of {
		return Shard{}, fmt.Errorf("--shard: %q of %q is no part: want I/N, I from 0 to N-1, N at most %d", first, second, MaxShards)
	}
	return s, nil
}

// String is I/N.
func (s Shard) String() string { return fmt.Sprintf("%d/%d", s.Index, s.Of) }

// Pick returns the hosts of the shard, in their order.
func (s Shard) Pick(hosts []string) []string {
	if s.Of < 1 {
		return hosts
	}
	var mine []string
	for _, host := range hosts {
		if owner(host, s.Of) == s.Index {
			mine = append(mine, host)
		}
	}
	return mine
}

// owner is the shard that wants a host most, by a number that depends on the two of them alone:
// with one more shard, only the hosts that it wants most change theirs.
func owner(host string, shards int) (best int) {
	var most uint64
	for i := range shards {
		sum := sha256.Sum256(fmt.Appendf(nil, "bake.shard/1 %s %d", host, i))
		if wants := binary.BigEndian.Uint64(sum[:]); wants >= most {
			best, most = i, wants
		}
	}
	return best
}
