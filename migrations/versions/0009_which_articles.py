"""which articles are being brought into a shop: two orders that name one new article create it once

Revision ID: 0009
Revises: 0008
"""

import sqlalchemy as sa
from alembic import op
revision = '0009'
down_revision = '0008'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(
        'ix_effects_gtins', 'effects', [sa.text("(parameters -> 'gtins')")], schema='po',
        postgresql_using='gin', postgresql_where=sa.text("parameters ? 'gtins'"),
    )


def downgrade() -> None:
    op.drop_index('ix_effects_gtins', table_name='effects', schema='po')
