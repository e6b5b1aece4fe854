package audit

import (
	"errors"

	"github.com/go-sql-driver/mysql"
)

// duplicate tells whether a row with the primary key is there.
func duplicate(err error) bool {
	var refused *mysql.MySQLError
	return errors.As(err, &refused) && refused.Number == 1062
}
