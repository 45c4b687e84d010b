/**
 * The values of Go's `client/v3/naming/endpoints`, which its gRPC resolver reads: `{"Op":0,"Addr":"...","Metadata":...}`.
 */
import * as Schema from "effect/Schema"
import * as SchemaTransformation from "effect/SchemaTransformation"

/**
 * An endpoint of a service.
 *
 * @since 0.1.0
 */
export interface GoEndpoint {
  /** Where the service listens: `host:port`. */
  readonly address: string
  /** What a gRPC balancer is to know about the endpoint; `null` for nothing. */
  readonly metadata: Schema.Json
}

/** Go writes all three fields, and reads what it knows. `Op` 0 is "add"; the library writes no other. */
const Stored = Schema.Struct({
  Op: Schema.optionalKey(Schema.Int),
  Addr: Schema.String,
  Metadata: Schema.optionalKey(Schema.Json)
})

const Decoded = Schema.Struct({ address: Schema.String, metadata: Schema.Json })

export const schema: Schema.Codec<GoEndpoint, unknown> = Stored.pipe(
  Schema.decodeTo(
    Decoded,
    SchemaTransformation.transform({
      decode: ({ Addr, Metadata }) => ({ address: Addr, metadata: Metadata ?? null }),
      encode: ({ address, metadata }) => ({ Op: 0, Addr: address, Metadata: metadata })
    })
  )
)
