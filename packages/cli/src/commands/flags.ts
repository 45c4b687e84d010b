/** Flags that several commands have. */
import * as Flag from "effect/cli/Flag"
import * as Option from "effect/Option"

/** A flag without a value. */
export const on = (name: string, description: string): Flag.Flag<boolean> =>
  Flag.Boolean(name).pipe(Flag.withDescription(description), Flag.withoutNegation, Flag.withDefault(false))

export const base64 = (description: string): Flag.Flag<boolean> => on("base64", description)

export const prefix = (description: string): Flag.Flag<boolean> => on("under", description)

export const yes: Flag.Flag<boolean> = on("yes", "Does not ask")

/** A flag that is a revision of the store, a whole number. */
export const revision = (name: string, description: string): Flag.Flag<Option.Option<bigint>> =>
  Flag.String(name).pipe(
    Flag.withMetavar("N"),
    Flag.withDescription(description),
    Flag.filterMap(
      (text) => /^\d{1,19}$/.test(text) ? Option.some(BigInt(text)) : Option.none(),
      () => "a whole number such as 1042"
    ),
    Flag.optional
  )

/** A flag that is the id of a lease in hexadecimal. */
export const lease: Flag.Flag<Option.Option<bigint>> = Flag.String("lease").pipe(
  Flag.withMetavar("ID"),
  Flag.withDescription("The lease to attach the key to, in hexadecimal as 'sessions' shows it"),
  Flag.filterMap(
    (text) => /^[0-9a-f]{1,16}$/i.test(text) ? Option.some(BigInt(`0x${text}`)) : Option.none(),
    () => "a hexadecimal number such as 694d8a3f2b1c"
  ),
  Flag.optional
)
