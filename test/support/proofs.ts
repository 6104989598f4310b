import { createSystemRandom, systemClock } from '../../src/clock.ts'
import type { createProviderClients } from '../../src/credentials/provider/client.ts'
import { createProofs } from '../../src/foundation/outbound/proofs.ts'

/** What Deputy proves at providers: keys that tokens are bound to. No client here is known by its document. */
export const someProofs = (): Pick<Parameters<typeof createProviderClients>[0], 'proofs' | 'assertClient'> => ({
  proofs: createProofs({ clock: systemClock, random: createSystemRandom() }),
  assertClient: () => {
    throw new Error('no client has a document')
  },
})
