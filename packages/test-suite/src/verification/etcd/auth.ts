/**
 * Users of an etcd cluster and their permissions.
 */
import * as Effect from "effect/Effect"
import type { EtcdClusterError } from "./EtcdClusterError.ts"
import type { EtcdctlOptions } from "./etcdctl.ts"

/**
 * What a user may do. The prefix `""` covers every key.
 *
 * @since 0.1.0
 */
export type Permission =
  & { readonly permission: "read" | "write" | "readwrite" }
  & ({ readonly key: string } | { readonly prefix: string })

/**
 * A user of the store. Without a password, a user can only authenticate by a certificate with its name.
 *
 * @since 0.1.0
 */
export interface User {
  readonly name: string
  readonly password?: string | undefined
  readonly permissions?: ReadonlyArray<Permission> | undefined
}

/**
 * The password of root, and further users.
 *
 * @since 0.1.0
 */
export interface AuthOptions {
  readonly rootPassword: string
  readonly users?: ReadonlyArray<User> | undefined
}

type RunEtcdctl = (
  args: ReadonlyArray<string>,
  options?: EtcdctlOptions
) => Effect.Effect<string, EtcdClusterError>

/** Creates root and the other users, then turns authentication on. */
export const enableAuth = Effect.fnUntraced(
  function*(etcdctl: RunEtcdctl, { rootPassword, users = [] }: AuthOptions) {
    yield* addUser(etcdctl, { name: "root", password: rootPassword })
    yield* etcdctl(["user", "grant-role", "root", "root"]).pipe(
      // Before etcd 3.6 the role may have to be created first.
      Effect.catch(() =>
        Effect.andThen(etcdctl(["role", "add", "root"]), etcdctl(["user", "grant-role", "root", "root"]))
      )
    )
    for (const user of users) {
      const role = `role-of-${user.name}`
      yield* addUser(etcdctl, user)
      yield* etcdctl(["role", "add", role])
      for (const permission of user.permissions ?? []) yield* grant(etcdctl, role, permission)
      yield* etcdctl(["user", "grant-role", user.name, role])
    }
    yield* etcdctl(["auth", "enable"])
  }
)

const addUser = (etcdctl: RunEtcdctl, user: User) =>
  user.password === undefined
    ? etcdctl(["user", "add", user.name, "--no-password"])
    // On standard input, etcdctl would end the password at the first space.
    : etcdctl(["user", "add", user.name, `--new-user-password=${user.password}`])

const grant = (etcdctl: RunEtcdctl, role: string, permission: Permission) =>
  etcdctl([
    "role",
    "grant-permission",
    role,
    permission.permission,
    ...("key" in permission ? [permission.key] : ["--prefix=true", "--", permission.prefix])
  ])
