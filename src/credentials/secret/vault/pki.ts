import { z } from 'zod'
import { refuse } from '#errors'
import { Secret } from '#foundation/crypto'
import type { LeasedSecrets } from '../backend.ts'
import { engineRefusal, readVault } from './client.ts'
import type { EngineOptions } from './lease.ts'

const SECOND_MS = 1000
const issuedSchema = z.object({
  lease_id: z.string().default(''),
  data: z.object({
    certificate: z.string().min(1),
    private_key: z.string().min(1),
    issuing_ca: z.string().optional(),
    ca_chain: z.array(z.string()).optional(),
    serial_number: z.string().regex(/^[0-9a-f]{2}(:[0-9a-f]{2})*$/),
    expiration: z.number().positive(),
  }),
})

/**
 * Certificates of Vault's PKI engine (https://developer.hashicorp.com/vault/api-docs/secret/pki#generate-certificate-and-key). Their name at Vault
 * is the serial number; a revoked certificate is in the engine's CRL and OCSP answers, which its verifiers have to check.
 */
export const createVaultPki = ({ id, mount, session, clock, making }: EngineOptions): LeasedSecrets => {
  return {
    // The certificate says when it ends.
    endsByItself: true,
    async make(role, wish) {
      if (wish?.duration === undefined)
        throw refuse('secret_backend_refused', { backend: id, problem: 'a certificate needs a user or a server' })
      const { answer, parent } = await session.askForLease({
        timeout: making,
        once: true,
        method: 'POST',
        path: `${mount}/issue/${role}`,
        body: {
          common_name: wish.name,
          exclude_cn_from_sans: true,
          format: 'pem',
          private_key_format: 'pkcs8',
          ...(wish.uri === undefined ? {} : { uri_sans: wish.uri }),
          ttl: `${Math.max(1, Math.floor(wish.duration / SECOND_MS))}s`,
        },
      })
      if (answer.status >= 400) throw engineRefusal(id, answer)
      const { data, lease_id: leaseId } = readVault(id, answer, issuedSchema)
      const duration = data.expiration * SECOND_MS - clock.now()
      if (duration <= 0)
        throw refuse('secret_backend_refused', { backend: id, problem: 'it issued a certificate that has expired' })
      const chain = data.ca_chain ?? (data.issuing_ca === undefined ? [] : [data.issuing_ca])
      return {
        value: new Secret(
          JSON.stringify({ certificate: data.certificate, private_key: data.private_key, ca_chain: chain }),
        ),
        lease: data.serial_number,
        duration,
        renewable: false,
        // Only a role with `generate_lease` puts it under the token that asked for it.
        ...(leaseId === '' ? {} : { parent }),
      }
    },
    renew: () => Promise.resolve(undefined),
    async end(serial) {
      const answer = await session.ask({ method: 'POST', path: `${mount}/revoke`, body: { serial_number: serial } })
      if (answer.status !== 200 && answer.status !== 204) throw engineRefusal(id, answer)
    },
  }
}
