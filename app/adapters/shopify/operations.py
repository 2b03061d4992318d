"""What we say to Shopify: one constant per operation, each a document of the 2026-10 Admin schema.

Every document has exactly one operation and it is named, so that logs and throttling can speak of it.
Lists are read in pages of 50: a query may request at most 1,000 points, and the bucket must hold
what is *requested*, whatever comes back.
"""

from __future__ import annotations

_VARIANT = """
fragment VariantFields on ProductVariant {
  id
  sku
  barcode
  price
  selectedOptions { name value }
  inventoryItem { id unitCost { amount } }
}
"""

_PRODUCT = (
    """
fragment ProductFields on Product {
  id
  title
  status
  vendor
  productType
  tags
  descriptionHtml
  totalInventory
  options { name optionValues { name } }
  metafield(namespace: "po_pipeline", key: "draft_id") { value }
  variants(first: $first, after: $after) {
    nodes { ...VariantFields }
    pageInfo { hasNextPage endCursor }
  }
}
"""
    + _VARIANT
)

SHOP_FACTS = """
query ShopFacts {
  shop { currencyCode taxesIncluded }
  currentAppInstallation { accessScopes { handle } }
}
"""

LOCATIONS = """
query Locations {
  locations(first: 50) { nodes { id name isActive isFulfillmentService } }
}
"""

DEFINE_CUSTOM_ID = """
mutation DefineCustomId($definition: MetafieldDefinitionInput!) {
  metafieldDefinitionCreate(definition: $definition) {
    createdDefinition { id }
    userErrors { code field message }
  }
}
"""

CUSTOM_ID_TYPE = """
query CustomIdType($identifier: MetafieldDefinitionIdentifierInput!) {
  metafieldDefinition(identifier: $identifier) { type { name } }
}
"""

FIND_PRODUCT = (
    """
query FindProduct($identifier: ProductIdentifierInput!, $first: Int!, $after: String) {
  productByIdentifier(identifier: $identifier) { ...ProductFields }
}
"""
    + _PRODUCT
)

FIND_VARIANTS = (
    """
query FindVariants($query: String!, $after: String) {
  productVariants(first: 50, after: $after, query: $query) {
    nodes { ...VariantFields product { id } }
    pageInfo { hasNextPage endCursor }
  }
}
"""
    + _VARIANT
)

NODES = """
query Nodes($ids: [ID!]!) {
  nodes(ids: $ids) { id }
}
"""

CREATE_PRODUCT = (
    """
mutation CreateProduct(
  $identifier: ProductSetIdentifiers!, $input: ProductSetInput!, $first: Int!, $after: String
) {
  productSet(identifier: $identifier, input: $input, synchronous: true) {
    product { ...ProductFields }
    userErrors { code field message }
  }
}
"""
    + _PRODUCT
)

ARCHIVE_PRODUCT = """
mutation ArchiveProduct($product: ProductUpdateInput!) {
  productUpdate(product: $product) {
    userErrors { field message }
  }
}
"""

LINK_PRODUCT = """
mutation LinkProduct($metafields: [MetafieldsSetInput!]!) {
  metafieldsSet(metafields: $metafields) {
    userErrors { code field message }
  }
}
"""

BULK_CREATE = """
mutation BulkCreate($identifier: ProductSetIdentifiers!, $input: ProductSetInput!) {
  productSet(identifier: $identifier, input: $input, synchronous: true) {
    product { id }
    userErrors { code field message }
  }
}
"""

RUN_BULK = """
mutation RunBulk($mutation: String!, $path: String!, $clientIdentifier: String!) {
  bulkOperationRunMutation(mutation: $mutation, stagedUploadPath: $path, clientIdentifier: $clientIdentifier) {
    bulkOperation { id }
    userErrors { code field message }
  }
}
"""

BULK_OPERATION = """
query BulkOperation($id: ID!) {
  bulkOperation(id: $id) { status errorCode url partialDataUrl }
}
"""

BULK_OPERATIONS = """
query BulkOperations($first: Int!) {
  bulkOperations(first: $first, reverse: true, sortKey: CREATED_AT) { nodes { id query } }
}
"""

ADD_VARIANTS = """
mutation AddVariants($productId: ID!, $variants: [ProductVariantsBulkInput!]!) {
  productVariantsBulkCreate(productId: $productId, variants: $variants, strategy: PRESERVE_STANDALONE_VARIANT) {
    userErrors { code field message }
  }
}
"""

STOCK_VALUES = """
query StockValues($id: ID!, $after: String) {
  product(id: $id) {
    variants(first: 50, after: $after) {
      nodes { id inventoryQuantity inventoryItem { unitCost { amount } } }
      pageInfo { hasNextPage endCursor }
    }
  }
}
"""

SET_COSTS = """
mutation SetCosts($productId: ID!, $variants: [ProductVariantsBulkInput!]!) {
  productVariantsBulkUpdate(productId: $productId, variants: $variants) {
    userErrors { code field message }
  }
}
"""

LEVELS = """
query Levels($ids: [ID!]!, $locationId: ID!) {
  nodes(ids: $ids) {
    ... on InventoryItem {
      id
      sku
      tracked
      createdAt
      inventoryHistoryUrl
      variants(first: 1) { nodes { displayName requiresComponents } }
      inventoryLevel(locationId: $locationId) { quantities(names: ["incoming", "available"]) { name quantity } }
    }
  }
}
"""

ADJUST_QUANTITIES = """
mutation AdjustQuantities($input: InventoryAdjustQuantitiesInput!, $key: String!) {
  inventoryAdjustQuantities(input: $input) @idempotent(key: $key) {
    inventoryAdjustmentGroup { id }
    userErrors { code field message }
  }
}
"""

MOVE_QUANTITIES = """
mutation MoveQuantities($input: InventoryMoveQuantitiesInput!, $key: String!) {
  inventoryMoveQuantities(input: $input) @idempotent(key: $key) {
    inventoryAdjustmentGroup { id }
    userErrors { code field message }
  }
}
"""

FIND_TRANSFERS = """
query FindTransfers($namespace: String!, $key: String!, $after: String) {
  inventoryTransfers(first: 50, reverse: true, after: $after) {
    nodes { id metafield(namespace: $namespace, key: $key) { value } }
    pageInfo { hasNextPage endCursor }
  }
}
"""

OPEN_TRANSFERS = """
query OpenTransfers($namespace: String!, $key: String!, $after: String) {
  inventoryTransfers(first: 5, reverse: true, after: $after) {
    nodes {
      name
      status
      destination { location { id } }
      metafield(namespace: $namespace, key: $key) { value }
      lineItems(first: 50) { nodes { inventoryItem { id } } }
    }
    pageInfo { hasNextPage endCursor }
  }
}
"""

TRANSFER = """
query Transfer($id: ID!) {
  inventoryTransfer(id: $id) {
    id
    lineItems(first: 250) { nodes { totalQuantity inventoryItem { id } } }
    shipments(first: 10) { nodes { id } }
  }
}
"""

CREATE_TRANSFER = """
mutation CreateTransfer($input: InventoryTransferCreateAsReadyToShipInput!, $key: String!) {
  inventoryTransferCreateAsReadyToShip(input: $input) @idempotent(key: $key) {
    inventoryTransfer { id }
    userErrors { code field message }
  }
}
"""

SHIP_TRANSFER = """
mutation ShipTransfer($input: InventoryShipmentCreateInput!, $key: String!) {
  inventoryShipmentCreateInTransit(input: $input) @idempotent(key: $key) {
    inventoryShipment { id }
    userErrors { code field message }
  }
}
"""

SHIPMENT = """
query Shipment($id: ID!) {
  inventoryShipment(id: $id) {
    lineItems(first: 250) {
      nodes { id acceptedQuantity rejectedQuantity unreceivedQuantity inventoryItem { id } }
    }
  }
}
"""

RECEIVE_SHIPMENT = """
mutation ReceiveShipment($id: ID!, $lineItems: [InventoryShipmentReceiveItemInput!]!, $key: String!) {
  inventoryShipmentReceive(id: $id, lineItems: $lineItems) @idempotent(key: $key) {
    inventoryShipment { id }
    userErrors { code field message }
  }
}
"""

MEDIA = """
query Media($id: ID!, $after: String) {
  product(id: $id) {
    status
    media(first: 50, after: $after) {
      nodes {
        id
        alt
        status
        mediaErrors { code message }
        ... on MediaImage { image { url } originalSource { url } }
      }
      pageInfo { hasNextPage endCursor }
    }
  }
}
"""

STAGE_UPLOAD = """
mutation StageUpload($input: [StagedUploadInput!]!) {
  stagedUploadsCreate(input: $input) {
    stagedTargets { url resourceUrl parameters { name value } }
    userErrors { field message }
  }
}
"""

ATTACH_MEDIA = """
mutation AttachMedia($product: ProductUpdateInput!, $media: [CreateMediaInput!]!) {
  productUpdate(product: $product, media: $media) {
    product { id }
    userErrors { field message }
  }
}
"""

SHOP_NAME = """
query ShopName {
  shop { name myshopifyDomain }
}
"""

SUBSCRIPTIONS = """
query Subscriptions($topics: [WebhookSubscriptionTopic!]) {
  webhookSubscriptions(first: 50, topics: $topics) { nodes { topic uri } }
}
"""

SUBSCRIBE = """
mutation Subscribe($topic: WebhookSubscriptionTopic!, $webhookSubscription: WebhookSubscriptionInput!) {
  webhookSubscriptionCreate(topic: $topic, webhookSubscription: $webhookSubscription) {
    webhookSubscription { id }
    userErrors { field message }
  }
}
"""

ALL = (
    SHOP_FACTS,
    LOCATIONS,
    DEFINE_CUSTOM_ID,
    CUSTOM_ID_TYPE,
    FIND_PRODUCT,
    FIND_VARIANTS,
    NODES,
    CREATE_PRODUCT,
    ARCHIVE_PRODUCT,
    LINK_PRODUCT,
    BULK_CREATE,
    RUN_BULK,
    BULK_OPERATION,
    BULK_OPERATIONS,
    ADD_VARIANTS,
    STOCK_VALUES,
    SET_COSTS,
    LEVELS,
    ADJUST_QUANTITIES,
    MOVE_QUANTITIES,
    FIND_TRANSFERS,
    OPEN_TRANSFERS,
    TRANSFER,
    CREATE_TRANSFER,
    SHIP_TRANSFER,
    SHIPMENT,
    RECEIVE_SHIPMENT,
    MEDIA,
    STAGE_UPLOAD,
    ATTACH_MEDIA,
    SHOP_NAME,
    SUBSCRIPTIONS,
    SUBSCRIBE,
)
"""For the test that validates each against the contract."""
