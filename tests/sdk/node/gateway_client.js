'use strict';

const { DefaultApiClient } = require('ask-sdk-core');

// Sends calls for Alexa through ALEXA_GATEWAY_URL, or straight to Alexa when it is not set.
class GatewayApiClient extends DefaultApiClient {
  invoke(request) {
    const gateway = process.env.ALEXA_GATEWAY_URL;
    const { origin, hostname, pathname, search } = new URL(request.url);
    const isAlexa = /\.(amazonalexa|fe\.amazon)\.com$/.test(hostname);
    if (!gateway || !isAlexa) return super.invoke(request);
    return super.invoke({
      ...request,
      url: gateway.replace(/\/$/, '') + pathname + search,
      headers: [...request.headers, { key: 'Alexa-Api-Endpoint', value: origin }],
    });
  }
}

module.exports = { GatewayApiClient };
