/** Addresses of the connect pages that are registered elsewhere, for messages. */
import { callbackUrlOf, pagesUrlOf, type Provider, type Settings } from '#config'

type Pages = Pick<Settings, 'connect_url' | 'listen'>

/** What to register at a tenant's identity provider: both, so that a later tenant changes nothing (docs/sign-in.md). */
export const signInAddresses = (settings: Pages, tenant: string): readonly string[] => {
  const pages = pagesUrlOf(settings)
  return [`${pages}/connect/signed-in`, `${pages}/connect/signed-in/${tenant}`]
}

/** What to register at a service where users connect. */
export const callbackAddress = (settings: Pages, provider: Pick<Provider, 'provider' | 'redirect_uri'>): string =>
  callbackUrlOf(pagesUrlOf(settings), provider)
