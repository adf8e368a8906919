package cluster

import (
	"context"
	"encoding/json"
	"errors"
)

const turnSchema = "bake.turn/1"

// turn is what is written down of who does what all need.
type turn struct {
	Schema string `json:"schema"`
	Night  string `json:"night"`
	Shard  string `json:"shard"`
	Worker string `json:"worker"` // for people
}

// Turn says who does what all workers of a night need and one does, such as fetching an image:
// "" if it is for this one to do, else the worker that has begun with it. A worker of another
// night, or an earlier one of the same shard, has not finished what is still needed.
func (l Ledger) Turn(ctx context.Context, name string, shard Shard) (other string, err error) {
	mine := turn{turnSchema, l.Night, shard.String(), l.Worker}
	for range maxTries {
		content, version, err := l.Store.Get(ctx, name)
		if err != nil {
			return "", err
		}
		var has turn
		if version != "" && json.Unmarshal(content, &has) == nil && has.Schema == turnSchema && has.Night == mine.Night && has.Shard != mine.Shard {
			return has.Worker, nil
		}
		if has == mine {
			return "", nil
		}
		if content, err = json.Marshal(mine); err != nil {
			return "", err
		}
		if _, err = l.Store.Put(ctx, name, content, version); !errors.Is(err, ErrMoved) {
			return "", err
		}
	}
	return "", errors.New("others write " + name + " all the time")
}

// Pass gives up what was this worker's turn: the next that asks has it.
func (l Ledger) Pass(ctx context.Context, name string, shard Shard) error {
	content, version, err := l.Store.Get(ctx, name)
	if err != nil {
		return err
	}
	var has turn
	if json.Unmarshal(content, &has) != nil || has != (turn{turnSchema, l.Night, shard.String(), l.Worker}) {
		return nil // it is another's by now
	}
	if content, err = json.Marshal(turn{Schema: turnSchema}); err != nil {
		return err
	}
	if _, err = l.Store.Put(ctx, name, content, version); errors.Is(err, ErrMoved) {
		err = nil
	}
	return err
}
