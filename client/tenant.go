package client

import (
	"context"
	"encoding/json"
	"slices"

	"github.com/nats-io/nats.go"

	"github.com/rlaaudgjs5638/hersh/events"
)

// subjectUserInfo is where a NATS server tells a user about itself.
const subjectUserInfo = "$SYS.REQ.USER.INFO"

// Tenant returns the user that this connection can only be: where everybody has an account of their own, the server knows who connected.
// It returns "" for an operator, and for everybody on a server of development. The error is of the connection.
func (c *Client) Tenant(ctx context.Context) (events.UserID, error) {
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	answer, err := c.exchange(ctx, nats.NewMsg(subjectUserInfo))
	if err != nil {
		if c.nc.IsConnected() {
			return "", nil // A server that does not tell, or does not tell this user, has no tenants as Hersh makes them.
		}
		return "", err
	}
	var reply struct {
		Data struct {
			Account     string `json:"account"`
			Permissions struct {
				Publish struct {
					Allow []string `json:"allow"`
				} `json:"publish"`
			} `json:"permissions"`
		} `json:"data"`
	}
	if json.Unmarshal(answer.Data, &reply) != nil {
		return "", nil
	}
	user, err := events.ParseUserID(reply.Data.Account)
	if err != nil || !slices.Contains(reply.Data.Permissions.Publish.Allow, events.APISubject(user, ">")) {
		return "", nil
	}
	return user, nil
}
