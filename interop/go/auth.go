package main

import (
	"context"

	clientv3 "go.etcd.io/etcd/client/v3"
)

type authArgs struct {
	Client   string `json:"client"`
	User     string `json:"user"`
	Password string `json:"password"`
	Role     string `json:"role"`
	// The keys with this prefix.
	Prefix     string `json:"prefix"`
	Permission string `json:"permission"` // "read", "write" or "readwrite"
}

// authCall is a call without a result.
func authCall[R any](args authArgs, run func(*clientv3.Client) (R, error)) (any, error) {
	client, err := clients.get(args.Client)
	if err != nil {
		return nil, err
	}
	_, err = run(client)
	return done{}, err
}

func authEnable(ctx context.Context, args authArgs, _ func(any)) (any, error) {
	return authCall(args, func(c *clientv3.Client) (any, error) { return c.AuthEnable(ctx) })
}

func authDisable(ctx context.Context, args authArgs, _ func(any)) (any, error) {
	return authCall(args, func(c *clientv3.Client) (any, error) { return c.AuthDisable(ctx) })
}

func userAdd(ctx context.Context, args authArgs, _ func(any)) (any, error) {
	return authCall(args, func(c *clientv3.Client) (any, error) { return c.UserAdd(ctx, args.User, args.Password) })
}

func userDelete(ctx context.Context, args authArgs, _ func(any)) (any, error) {
	return authCall(args, func(c *clientv3.Client) (any, error) { return c.UserDelete(ctx, args.User) })
}

func userPassword(ctx context.Context, args authArgs, _ func(any)) (any, error) {
	return authCall(args, func(c *clientv3.Client) (any, error) {
		return c.UserChangePassword(ctx, args.User, args.Password)
	})
}

func userList(ctx context.Context, args authArgs, _ func(any)) (any, error) {
	client, err := clients.get(args.Client)
	if err != nil {
		return nil, err
	}
	response, err := client.UserList(ctx)
	if err != nil {
		return nil, err
	}
	return response.Users, nil
}

func userGrantRole(ctx context.Context, args authArgs, _ func(any)) (any, error) {
	return authCall(args, func(c *clientv3.Client) (any, error) { return c.UserGrantRole(ctx, args.User, args.Role) })
}

func roleAdd(ctx context.Context, args authArgs, _ func(any)) (any, error) {
	return authCall(args, func(c *clientv3.Client) (any, error) { return c.RoleAdd(ctx, args.Role) })
}

var permissions = map[string]clientv3.PermissionType{
	"read":      clientv3.PermissionType(clientv3.PermRead),
	"write":     clientv3.PermissionType(clientv3.PermWrite),
	"readwrite": clientv3.PermissionType(clientv3.PermReadWrite),
}

func roleGrant(ctx context.Context, args authArgs, _ func(any)) (any, error) {
	return authCall(args, func(c *clientv3.Client) (any, error) {
		end := clientv3.GetPrefixRangeEnd(args.Prefix)
		return c.RoleGrantPermission(ctx, args.Role, args.Prefix, end, permissions[args.Permission])
	})
}
