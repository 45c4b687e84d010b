/**
 * The codec of etcd's method `Authenticate`. Fields are numbered as in etcd's `rpc.proto`.
 */
import { Reader } from "./wireReader.ts"
import { Writer } from "./wireWriter.ts"

/** Encodes an `AuthenticateRequest`. */
export const encodeAuthenticate = (name: string, password: string): Buffer => {
  // Not a shared writer: a writer keeps its last bytes in memory, and these hold a password.
  const writer = new Writer()
  writer.content(0x12, password)
  writer.content(0x0a, name)
  return writer.finish()
}

/** Decodes the token of an `AuthenticateResponse`. */
export const decodeToken = (message: Buffer): string => {
  const reader = new Reader(message)
  let token = ""
  while (reader.position < message.length) {
    const tag = reader.varint()
    if (tag === 0x12) {
      const end = reader.end()
      token = message.toString("utf8", reader.position, end)
      reader.position = end
    } else {
      reader.skip(tag)
    }
  }
  return token
}
