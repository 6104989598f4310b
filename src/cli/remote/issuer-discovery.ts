/** What an identity provider says about itself, asked for before its URL is written into a file. */
import { z } from 'zod'
import type { Settings } from '#config'
import { DeputyError } from '#errors'
import { createIssuerMetadata, readIssuerJson } from '#identity/subject'
import { onOneLine } from '#foundation/text'
import { egressOf } from './egress.ts'

const textsSchema = z.array(z.string()).catch([])
const keySetSchema = z.object({ keys: z.array(z.looseObject({ alg: z.string().optional(), kty: z.string() })).min(1) })

/** What was found, a line each; or why its tokens could not be verified. */
export type Discovery = { readonly found: readonly string[] } | { readonly problem: string }

const keysLine = (answer: unknown): string => {
  const { data } = keySetSchema.safeParse(answer)
  if (data === undefined) throw new Error('its key set has no keys')
  const kinds = new Set(data.keys.map(({ alg, kty }) => alg ?? kty))
  return `keys: ${data.keys.length} (${[...kinds].join(', ')})`
}

/**
 * Reads metadata and keys of an issuer through the guard of the daemon.
 * @param home for files that `network.hosts` names
 */
export const discoverIssuer = async (
  issuer: string,
  { home, network }: { readonly home: string; readonly network: Settings['network'] },
): Promise<Discovery> => {
  const egress = await egressOf(home, network)
  try {
    const metadata = await createIssuerMetadata({ egress, clock: { now: Date.now } })(issuer)
    if (metadata.jwks_uri === undefined) return { problem: `${issuer} names no key set (jwks_uri) in its metadata.` }
    const keys = keysLine(await readIssuerJson(egress, metadata.jwks_uri, 'its key set'))
    const scopes = textsSchema.parse(metadata['scopes_supported'])
    const endpoint = metadata['authorization_endpoint']
    return {
      found: [
        `issuer: ${metadata.issuer}`,
        keys,
        ...(typeof endpoint === 'string' ? [`users sign in at: ${endpoint}`] : []),
        ...(scopes.length === 0 ? [] : [`scopes: ${scopes.slice(0, 12).join(' ')}${scopes.length > 12 ? ' …' : ''}`]),
        // A line feed in what the provider says would make a line that looks like one of Deputy's.
      ].map(onOneLine),
    }
  } catch (error) {
    return {
      problem:
        error instanceof DeputyError ? error.message : `${issuer}: ${(error as Error).message.replace(/\.$/, '')}.`,
    }
  } finally {
    await egress.close()
  }
}
