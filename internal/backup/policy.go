package backup

import (
	"encoding/json"
	"path"
)

// statement is one of a policy as S3 servers have it.
type statement struct {
	Effect    string
	Principal any `json:",omitempty"` // whom it is for, in a policy that hangs at the bucket
	Action    []string
	Resource  []string
}

// Policy is the document that says what the key of a role may do, as S3 servers have it.
func (b *Bucket) Policy(as Role) ([]byte, error) { return document(b.statements(as == Pruner)) }

// statements are what a key may do: the writer's, or the pruner's. Neither can delete a
// version, shorten a lock or change the bucket. The writer can read, store, and remove
// restic's locks; the pruner can also have an object be deleted, whose versions stay for
// as long as they are locked, and renew locks.
func (b *Bucket) statements(prunes bool) []statement {
	objects := "arn:aws:s3:::" + path.Join(b.name, b.prefix, "*")
	deletes := "arn:aws:s3:::" + path.Join(b.name, b.prefix, "locks", "*")
	may := []string{"s3:GetObject", "s3:PutObject"}
	if prunes {
		deletes = objects
		may = append(may, "s3:GetObjectVersion", "s3:GetObjectRetention", "s3:PutObjectRetention")
	}
	return []statement{
		{Effect: "Allow", Action: []string{"s3:ListBucket", "s3:ListBucketVersions", "s3:GetBucketLocation", "s3:GetBucketVersioning", "s3:GetBucketObjectLockConfiguration", "s3:GetLifecycleConfiguration"},
			Resource: []string{"arn:aws:s3:::" + b.name}},
		{Effect: "Allow", Action: may, Resource: []string{objects}},
		{Effect: "Allow", Action: []string{"s3:DeleteObject"}, Resource: []string{deletes}},
	}
}

// document is a policy of such statements.
func document(all []statement) ([]byte, error) {
	return json.MarshalIndent(struct {
		Version   string
		Statement []statement
	}{"2012-10-17", all}, "", "  ")
}
