/**
 * Why an endpoint could not be reached: what errors of the network and of TLS mean to the operator.
 */
import { X509Certificate } from "node:crypto"
import { readFileSync } from "node:fs"
import { type Finding, problem } from "./finding.ts"

/** What was configured, as far as advice depends on it. */
export interface Configured {
  /** The file of the client's certificate. */
  readonly certificate: string | undefined
  readonly hasAuthority: boolean
}

/** What the message of a failure says about the endpoint. */
export const finding = (endpoint: string, message: string, configured: Configured, now: number): Finding => {
  const rule = rules.find(({ matches }) => matches.test(message))
  if (rule === undefined) {
    return problem(
      "endpoint-unreachable",
      `${endpoint} does not respond: ${message}`,
      "Is the address right? Does a firewall or a network policy drop the packets? A member that has just started " +
        "responds only when a majority of the members runs."
    )
  }
  const { advice, code, says } = rule.meaning(configured, now)
  return problem(code, `${endpoint} ${says}`, advice)
}

interface Meaning {
  readonly code: string
  readonly says: string
  readonly advice: string
}

interface Rule {
  readonly matches: RegExp
  readonly meaning: (configured: Configured, now: number) => Meaning
}

const rule = (matches: RegExp, code: string, says: string, advice: string): Rule => ({
  matches,
  meaning: () => ({ code, says, advice })
})

/** In this order: messages about certificates contain words of others. */
const rules: ReadonlyArray<Rule> = [
  rule(
    /Protocol error; does the server want https\?/,
    "not-etcd",
    "responds with something other than HTTP/2, as etcd's peer port does",
    "Correct the port: etcd's clients use 2379, its peers 2380. If the server has TLS, write https:// in the URL."
  ),
  rule(
    /does the server want https\?/,
    "server-wants-tls",
    "closes plain connections: it speaks TLS",
    "Write https:// in the URL, and name its authority with --ca FILE."
  ),
  rule(
    /does the server want http\?/,
    "server-speaks-plain",
    "does not speak TLS",
    "Write http:// in the URL, or give the server a certificate."
  ),
  {
    matches:
      /alert certificate required|alert bad certificate|alert handshake failure|alert certificate unknown|alert unknown ca|alert certificate expired|alert unsupported certificate/i,
    meaning: clientCertificate
  },
  rule(
    /certificate has expired/,
    "server-certificate-expired",
    "has a certificate that has expired",
    "Renew the certificate of the server. If it is new, check this machine's clock."
  ),
  rule(
    /certificate is not yet valid/,
    "server-certificate-not-yet-valid",
    "has a certificate that is not valid yet",
    "Check the clocks of this machine and of the one that made the certificate."
  ),
  rule(
    /altnames|Hostname\/IP does not match/,
    "server-name-mismatch",
    "has a certificate for another name",
    "Use a name that is in the certificate as the host of the URL, or name it with --server-name NAME."
  ),
  {
    matches:
      /unable to verify|self-signed|self signed|unable to get (local )?issuer|certificate signature failure|unknown ca/i,
    meaning: ({ hasAuthority }) => ({
      code: "unknown-authority",
      says: hasAuthority
        ? "has a certificate that the given authority did not sign"
        : "has a certificate of an authority that this machine does not know",
      advice: "Name the PEM file of the authority that signed the server's certificate with --ca FILE (ETCD_CA_FILE)."
    })
  },
  rule(
    /etcdserver: (no leader|request timed out)/,
    "no-leader",
    "responds, but knows no leader, and so cannot check credentials: the cluster has no quorum",
    "Start the members that are down until a majority runs, and check the network between the members (port 2380)."
  ),
  rule(
    /ECONNREFUSED/,
    "connection-refused",
    "refuses connections: nothing listens there",
    "Start the member, or correct the address and the port. etcd's clients use 2379, its peers 2380."
  ),
  rule(
    /ENOTFOUND|EAI_AGAIN/,
    "unknown-host",
    "has a host name that cannot be resolved",
    "Correct the name, or the DNS of this machine."
  ),
  rule(
    /EHOSTUNREACH|ENETUNREACH|EHOSTDOWN/,
    "no-route",
    "cannot be reached: there is no route to it",
    "Is the address right? Is this machine in the same network?"
  ),
  rule(
    /cannot be read|ENOENT|EACCES/,
    "tls-files",
    "cannot be connected to: a file of TLS cannot be read",
    "Correct --ca, --cert and --key, or the permissions of the files."
  )
]

function clientCertificate({ certificate }: Configured, now: number): Meaning {
  if (certificate === undefined) {
    return {
      code: "client-certificate-missing",
      says: "demands a certificate of the client, and none is given",
      advice: "Name it and its key with --cert FILE and --key FILE (ETCD_CERT_FILE, ETCD_KEY_FILE)."
    }
  }
  const expired = expiry(certificate)
  if (expired !== undefined && expired < now) {
    return {
      code: "client-certificate-expired",
      says: `rejects the client's certificate, which has expired at ${new Date(expired).toISOString()}`,
      advice: `Renew the certificate in ${certificate}.`
    }
  }
  return {
    code: "client-certificate-rejected",
    says: "rejects the client's certificate",
    advice: "Use one that the authority signed which the server trusts for clients (etcd's --trusted-ca-file)."
  }
}

/** When the certificate in the file expires, in milliseconds; `undefined` if it cannot be read. */
const expiry = (file: string): number | undefined => {
  try {
    return Date.parse(new X509Certificate(readFileSync(file)).validTo)
  } catch {
    return undefined
  }
}
