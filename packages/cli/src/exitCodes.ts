/**
 * The exit codes of `effect-kv`, and which of them an error has.
 *
 * A command that runs another one exits with the code of that one. So the codes for failures of effect-kv itself are from
 * `sysexits.h` and `timeout`, which commands rarely use for anything else.
 */
import type * as ElectionError from "@effect-kv/core/ElectionError"
import type * as KvError from "@effect-kv/core/KvError"
import type * as LockError from "@effect-kv/core/LockError"
import type * as SemaphoreError from "@effect-kv/core/SemaphoreError"
import type * as Config from "effect/Config"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"

/** Success. */
export const ok = 0
/** A negative result: the key does not exist, a condition did not hold, `doctor` found a problem. */
export const no = 1
/** The arguments are wrong: `EX_USAGE`. */
export const usage = 64
/** Input other than arguments is wrong, such as the JSON of `txn`: `EX_DATAERR`. */
export const invalidData = 65
/** The store could not be reached, or did not respond in time: `EX_UNAVAILABLE`. */
export const unavailable = 69
/** A fault of effect-kv itself: `EX_SOFTWARE`. */
export const software = 70
/** A write was sent, and whether it was applied is unknown: `EX_IOERR`. */
export const indeterminate = 74
/** The lock was not acquired within `--acquire-timeout`, or the place in its queue was lost: `EX_TEMPFAIL`. */
export const notAcquired = 75
/** The lock was lost while the command ran: `EX_PROTOCOL`. */
export const lost = 76
/** The store rejected the user, the password or the permission: `EX_NOPERM`. */
export const notPermitted = 77
/** A setting of the connection is wrong or missing: `EX_CONFIG`. */
export const configuration = 78
/** The command ran for longer than `--max-hold`, as with `timeout`. */
export const held = 124
/** The command cannot be executed, as in a shell. */
export const notExecutable = 126
/** The command was not found, as in a shell. */
export const notFound = 127
/** The base for a command that a signal ended: 128 and the signal's number, as in a shell. */
export const signalled = 128

/** What a person or a script gave is wrong. The message says what would be right. */
export class UsageError extends Schema.Error<UsageError>("@effect-kv/cli/UsageError")({
  _tag: Schema.tag("UsageError"),
  message: Schema.String
}) {}

/** Input that was read is wrong, such as a transaction in JSON. The message says where, and what would be right. */
export class DataError extends Schema.Error<DataError>("@effect-kv/cli/DataError")({
  _tag: Schema.tag("DataError"),
  message: Schema.String
}) {}

/** A setting of the connection is wrong or missing. The message names the flag and the variable. */
export class ConfigurationError extends Schema.Error<ConfigurationError>("@effect-kv/cli/ConfigurationError")({
  _tag: Schema.tag("ConfigurationError"),
  message: Schema.String
}) {}

/** The place in the queue was lost before the command began. */
export class PlaceLost extends Schema.Error<PlaceLost>("@effect-kv/cli/PlaceLost")({
  _tag: Schema.tag("PlaceLost"),
  message: Schema.String
}) {}

/** Ends the program with a code. Everything there is to say has been written already. */
export class Exit extends Schema.Error<Exit>("@effect-kv/cli/Exit")({
  _tag: Schema.tag("Exit"),
  code: Schema.Int
}) {
  override get message(): string {
    return `exit code ${this.code}`
  }
}

/** The failures that a command may have. Each has a message for people and an exit code. */
export type Failure =
  | UsageError
  | DataError
  | ConfigurationError
  | PlaceLost
  | Exit
  | Config.ConfigError
  | KvError.KvError
  | LockError.LockError
  | ElectionError.ElectionError
  | SemaphoreError.SemaphoreError

/** The exit code of a failure. */
export const of = (failure: Failure): number => {
  switch (failure._tag) {
    case "Exit":
      return failure.code
    case "UsageError":
    case "TooManyPermits":
      return usage
    case "DataError":
      return invalidData
    case "ConfigurationError":
    case "ConfigError":
    case "PermitsMismatch":
      return configuration
    case "PlaceLost":
      return notAcquired
    case "LockTimeout":
      return Option.isSome(failure.storeFailure) ? unavailable : notAcquired
    case "LockLost":
    case "UnhealthyLeader":
      return lost
    case "LockHoldExceeded":
      return held
    case "KvError":
      return ofReason[failure.reason._tag]
  }
}

const ofReason: Record<KvError.Reason["_tag"], number> = {
  Unavailable: unavailable,
  DeadlineExceeded: unavailable,
  QuotaExceeded: unavailable,
  StoreReplaced: unavailable,
  Unauthenticated: notPermitted,
  PermissionDenied: notPermitted,
  InvalidRequest: usage,
  RequestTooLarge: usage,
  Compacted: usage,
  FutureRevision: usage,
  LeaseNotFound: no,
  LeaseExists: no,
  Indeterminate: indeterminate,
  LockLost: lost,
  Closed: software
}
